//! What a token says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ISSUER;
use crate::apiserver::user::{self, AUTHENTICATED, CREDENTIAL, User};

/// How far the clocks of two replicas may be apart, in seconds.
const SKEW: i64 = 60;

/// An object by name and identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) uid: String,
}

/// The private claims, under `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Private {
    pub(super) namespace: String,
    pub(super) serviceaccount: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Named>,
}

/// Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) audiences: Vec<String>,
    pub(super) id: String,
    pub(super) issued: i64,
    pub(super) expiry: i64,
    pub(super) private: Private,
}

#[derive(Deserialize)]
struct Wire {
    iss: String,
    sub: String,
    aud: Vec<String>,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

impl Claims {
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let wire = Wire::deserialize(value).map_err(|error| format!("the token cannot be read: {error}"))?;
        let Wire { iss, sub, aud, jti, iat, nbf, exp, private } = wire;
        if iss != ISSUER || sub != subject(&private) {
            return Err("the token contradicts itself".to_owned());
        }
        Ok(Self { audiences: aud, id: jti, issued: iat.max(nbf), expiry: exp, private })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "iss": ISSUER,
            "sub": subject(&self.private),
            "aud": self.audiences,
            "jti": self.id,
            "iat": self.issued,
            "nbf": self.issued,
            "exp": self.expiry,
            "kubernetes.io": self.private,
        })
    }

    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), String> {
        let now = now.as_second();
        if now >= self.expiry {
            return Err("the token has expired".to_owned());
        }
        if now + SKEW < self.issued {
            return Err("the token is not good yet: the clocks differ".to_owned());
        }
        Ok(())
    }

    /// The user that the bearer is.
    pub(super) fn user(&self) -> User {
        let Private { namespace, serviceaccount, pod, node, .. } = &self.private;
        let mut user = User::new(&subject(&self.private), &[]);
        user.uid.clone_from(&serviceaccount.uid);
        user.groups.extend(user::account_groups(namespace));
        user.groups.push(AUTHENTICATED.to_owned());
        user.extra.insert(CREDENTIAL.to_owned(), vec![format!("JTI={}", self.id)]);
        for (kind, named) in [("pod", pod), ("node", node)] {
            let Some(Named { name, uid }) = named else { continue };
            let extra = |part: &str| format!("authentication.kubernetes.io/{kind}-{part}");
            user.extra.insert(extra("name"), vec![name.clone()]);
            user.extra.insert(extra("uid"), vec![uid.clone()]);
        }
        user
    }
}

fn subject(private: &Private) -> String {
    user::account_name(&private.namespace, &private.serviceaccount.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let named = |name: &str| Named { name: name.to_owned(), uid: format!("{name}-uid") };
        let claims = Claims {
            audiences: vec!["x".to_owned()],
            id: "i".to_owned(),
            issued: 1000,
            expiry: 1600,
            private: Private {
                namespace: "dev".to_owned(),
                serviceaccount: named("robot"),
                pod: Some(named("p")),
                secret: None,
                node: Some(named("n")),
            },
        };
        assert_eq!(Claims::read(&claims.to_json()).unwrap(), claims);
        let mut other = claims.to_json();
        other["sub"] = json!("system:serviceaccount:dev:another");
        assert!(Claims::read(&other).is_err());
        let user = claims.user();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:dev:robot", "robot-uid"));
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["n-uid"]);
        for (second, good) in [(939, false), (940, true), (1000, true), (1599, true), (1600, false)] {
            let now = Timestamp::from_second(second).unwrap();
            assert_eq!(claims.check_time(now).is_ok(), good, "{second}");
        }
    }
}
