//! What a connection itself says about who is at its other end.

use jiff::Timestamp;

use super::user::{AUTHENTICATED, MASTERS, User};

/// Who is at the other end of a connection, as far as the connection tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It does not.
    #[default]
    Unknown,
    /// Somebody with a certificate that is believed.
    Certified(Certified),
    /// Somebody with a certificate that is not.
    Disbelieved,
    /// A process of this machine, as the kernel says.
    Local(User),
}

/// A user by certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certified {
    pub(crate) user: User,
    /// The last second in which it is good, since 1970.
    pub(crate) expiry: i64,
}

impl Certified {
    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        now.as_second() <= self.expiry
    }
}

impl Peer {
    /// The user that a process of this machine is. `owner` runs the server, and like root could
    /// read its keys anyway: both may do everything. Everybody else has the rights that roles
    /// give to `unix:<uid>`.
    pub(crate) fn local(uid: u32, owner: u32) -> Self {
        let name = format!("unix:{uid}");
        let groups: &[&str] =
            if uid == 0 || uid == owner { &[MASTERS, AUTHENTICATED] } else { &[AUTHENTICATED] };
        Self::Local(User::new(&name, groups))
    }

    /// Whether the connection belongs to somebody who can be told from strangers.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Certified(_) | Self::Local(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_owner_may_do_everything() {
        for (uid, is_master) in [(0, true), (1000, true), (1001, false), (u32::MAX, false)] {
            let Peer::Local(user) = Peer::local(uid, 1000) else { panic!("not local") };
            assert_eq!((user.name.as_str(), user.is_in(MASTERS)), (&*format!("unix:{uid}"), is_master));
        }
    }
}
