//! What several servers of one store must have in common: whatever one of them signs or encrypts, the others have to
//! believe or read. The keys lie in the root of each; the database knows their fingerprints, and no more.

use sha2::{Digest, Sha256};

/// What a server's root has of one file of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The file, as it is called below a root.
    pub file: &'static str,
    /// The fingerprints of what is in it. The first is of what signs or encrypts, the others of what is believed or
    /// read besides. None where the file is not there.
    pub fingerprints: Vec<String>,
}

impl Credential {
    /// Names a key, or something else of which nobody finds another with the same fingerprint, without telling anything
    /// of it.
    #[must_use]
    pub fn fingerprint(file: &str, secret: &[u8]) -> String {
        let digest = Sha256::new().chain_update(file).chain_update([0]).chain_update(secret).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The files whose fingerprint in `noted` is not among those here.
    pub(crate) fn differing(noted: &[(String, String)], here: &[Self]) -> Vec<String> {
        let differs = |(file, fingerprint): &&(String, String)| {
            let known = here.iter().find(|credential| credential.file == *file);
            // What an earlier version knew nothing of is none of its business.
            known.is_some_and(|known| !known.fingerprints.contains(fingerprint))
        };
        noted.iter().filter(differs).map(|(file, _)| file.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_being_replaced_is_known_to_both() {
        let noted = |fingerprint: &str| vec![("a".to_owned(), fingerprint.to_owned())];
        let here = |fingerprints: &[&str]| {
            [Credential { file: "a", fingerprints: fingerprints.iter().map(|&f| f.to_owned()).collect() }]
        };
        for (there, has, differs) in [
            ("1", &["1"][..], false),
            ("1", &["2", "1"], false),
            ("2", &["1", "2"], false),
            ("1", &["2"], true),
            ("1", &[], true),
        ] {
            let found = Credential::differing(&noted(there), &here(has));
            assert_eq!(!found.is_empty(), differs, "{there} {has:?}");
        }
        assert!(Credential::differing(&[], &here(&[])).is_empty(), "nobody has said anything yet");
        assert!(Credential::differing(&noted("1"), &[]).is_empty());
    }

    #[test]
    fn a_fingerprint_is_of_a_file() {
        assert_eq!(Credential::fingerprint("a", b"x").len(), 32);
        assert_eq!(Credential::fingerprint("a", b"x"), Credential::fingerprint("a", b"x"));
        assert_ne!(Credential::fingerprint("a", b"x"), Credential::fingerprint("b", b"x"));
        assert_ne!(Credential::fingerprint("a", b"x"), Credential::fingerprint("a", b"y"));
    }
}
