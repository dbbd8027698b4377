//! What a command that is just being started holds. Between its fork and its exec a child has
//! open whatever its parent had, locks, sockets and mounts included: for a moment, longer on a
//! busy machine, and also of a parent that is killed in it.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long something may be held so, before it counts as held by somebody else.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);
/// Between two tries.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Tries again for a moment what fails because something is held. To be called on a thread that
/// may block.
#[expect(clippy::disallowed_methods, reason = "nothing tells when a child has come to its exec")]
pub(crate) fn outlast<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_held(&error) && begun.elapsed() < MOMENT => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_for_a_moment_or_longer() {
        let mut left = 3;
        let mut attempt = || {
            left -= 1;
            if left == 0 { Ok(()) } else { Err("held") }
        };
        assert_eq!(outlast(&mut attempt, |error| *error == "held"), Ok(()));
        assert_eq!(left, 0);
        assert_eq!(outlast(|| Err::<(), _>("held"), |error| *error == "held"), Err("held"));
        // What is not held is said at once.
        assert_eq!(outlast(|| Err::<(), _>("gone"), |_| false), Err("gone"));
    }
}
