//! Pages of a sorted list. The token is the last id that was given out, so what comes and
//! goes meanwhile neither repeats nor hides others.

use std::fmt;

use crate::error::Error;

/// Which page was asked for.
#[derive(Debug)]
pub(super) struct Page<I> {
    most: usize,
    after: Option<I>,
}

impl<I: TryFrom<String> + Ord + fmt::Display> Page<I> {
    /// Reads `max_entries` (0: no limit) and `starting_token` (empty: from the beginning).
    pub(super) fn asked(max_entries: i32, starting_token: &str) -> Result<Self, Error> {
        let most = match usize::try_from(max_entries) {
            Ok(0) => usize::MAX,
            Ok(most) => most,
            Err(_) => return Err(Error::Invalid(format!("max_entries is negative ({max_entries})"))),
        };
        let after = match starting_token {
            "" => None,
            token => Some(read_token(token)?),
        };
        Ok(Self { most, after })
    }

    /// The entries of this page, and the token of the next one if there is one. `ids` are
    /// sorted; `entry` answers `None` for what is not to be listed.
    pub(super) fn fill<T>(
        self,
        ids: Vec<I>,
        mut entry: impl FnMut(&I) -> Result<Option<T>, Error>,
    ) -> Result<(Vec<T>, String), Error> {
        let after = self.after;
        let mut rest = ids.into_iter().filter(|id| after.as_ref().is_none_or(|after| id > after)).peekable();
        let mut entries = Vec::new();
        let mut last = None;
        while entries.len() < self.most
            && let Some(id) = rest.next()
        {
            entries.extend(entry(&id)?);
            last = Some(id);
        }
        let next_token = match (rest.peek(), last) {
            (Some(_), Some(last)) => token(&last),
            _ => String::new(),
        };
        Ok((entries, next_token))
    }
}

fn token(id: &impl fmt::Display) -> String {
    id.to_string().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_token<I: TryFrom<String>>(token: &str) -> Result<I, Error> {
    let bad = || Error::BadToken(token.chars().take(64).collect());
    if !token.is_ascii() {
        return Err(bad());
    }
    let bytes = token
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(bad)?;
    String::from_utf8(bytes).ok().and_then(|id| I::try_from(id).ok()).ok_or_else(bad)
}
