//! What 64 clients know of their volumes: a volume as the model has it, and what every call
//! has to answer.

use std::collections::BTreeSet;

use holdfast_proto::csi::{VolumeCapability, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::harness::{MIB, block, mounted};

/// A volume as the model has it; `None` in place of it: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) size: i64,
    pub(crate) attached: bool,
    pub(crate) staged: bool,
    pub(crate) targets: BTreeSet<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Create,
    Delete,
    Attach,
    Detach,
    Stage,
    Unstage,
    Publish(u8),
    Unpublish(u8),
    Expand,
}

/// What a call must answer, and what is there then.
pub(crate) fn expected(call: Call, now: Option<&Known>) -> (Code, Option<Known>) {
    let same = |code| (code, now.cloned());
    let Some(known) = now else {
        return match call {
            Call::Create => (Code::Ok, Some(Known { size: MIB, ..Known::default() })),
            Call::Delete | Call::Detach => same(Code::Ok),
            _ => same(Code::NotFound),
        };
    };
    let mut next = known.clone();
    let code = match call {
        Call::Create if known.size == MIB => Code::Ok,
        Call::Create => Code::AlreadyExists,
        Call::Delete if known.attached || known.staged => Code::FailedPrecondition,
        Call::Delete => return (Code::Ok, None),
        Call::Attach => {
            next.attached = true;
            Code::Ok
        }
        Call::Detach => {
            next.attached = false;
            Code::Ok
        }
        Call::Stage if !known.attached => Code::FailedPrecondition,
        Call::Stage => {
            next.staged = true;
            Code::Ok
        }
        Call::Unstage if !known.targets.is_empty() => Code::FailedPrecondition,
        Call::Unstage => {
            next.staged = false;
            Code::Ok
        }
        Call::Publish(_) if !known.staged => Code::FailedPrecondition,
        Call::Publish(target) => {
            next.targets.insert(target);
            Code::Ok
        }
        Call::Unpublish(target) => {
            next.targets.remove(&target);
            Code::Ok
        }
        Call::Expand => {
            next.size += MIB;
            Code::Ok
        }
    };
    if code == Code::Ok { (code, Some(next)) } else { same(code) }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) pool: &'static str,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn own(number: usize) -> Self {
        let pool = if number.is_multiple_of(2) { "images" } else { "folders" };
        Self { pool, name: format!("v{number}") }
    }

    pub(crate) fn number(&self) -> usize {
        self.name.trim_start_matches('v').parse().unwrap()
    }

    pub(crate) fn shared(number: usize) -> Self {
        Self { pool: "folders", name: format!("shared{number}") }
    }

    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.pool, self.name)
    }

    pub(crate) fn capability(&self) -> VolumeCapability {
        if self.pool == "images" { block(Mode::SingleNodeMultiWriter) } else { mounted("") }
    }
}
