//! The cluster's own certificate authority and the server's certificate.
//!
//! The authority lives in `pki/ca.crt` and `pki/ca.key` for as long as the
//! folder does, because kubeconfigs embed it. The server's key never touches
//! the disk: a new one is made at each start and each month, which clients do
//! not notice, as they trust the authority.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Span, Timestamp, tz::TimeZone};
use parking_lot::RwLock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::client_certificates::Believed;
use super::durable;
use super::error::ServeError;

/// How long a server's certificate is good.
const SERVER_DAYS: i32 = 365;
/// How long the authority is good: longer than the folder will live.
const AUTHORITY_DAYS: i32 = 365 * 50;
/// How often a running server makes itself a new certificate.
pub(crate) const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The cluster's certificate authority.
pub(crate) struct Authority {
    /// Its certificate, as kubeconfigs embed it.
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority from `folder`, or makes one. A crash between the two
    /// files leaves a key without certificate, which the next start replaces.
    pub(crate) fn open(folder: &Path, now: Timestamp) -> Result<Self, ServeError> {
        let (key_path, pem_path) = (folder.join("ca.key"), folder.join("ca.crt"));
        let read = |path: &Path| {
            durable::read(path).map_err(|source| ServeError::File {
                doing: "read",
                path: path.into(),
                source,
            })
        };
        let write = |path: &Path, content: &str| {
            durable::write(path, content.as_bytes()).map_err(|source| ServeError::File {
                doing: "write",
                path: path.into(),
                source,
            })
        };
        if let Some(pem) = read(&pem_path)? {
            let key = read(&key_path)?.ok_or_else(|| ServeError::Damaged {
                path: key_path.clone(),
                why: "it is missing while ca.crt is there".to_owned(),
            })?;
            let key = KeyPair::from_pem(&key)
                .map_err(|e| ServeError::Damaged { path: key_path, why: e.to_string() })?;
            let issuer = Issuer::from_ca_cert_pem(&pem, key)
                .map_err(|e| ServeError::Damaged { path: pem_path, why: e.to_string() })?;
            return Ok(Self { pem, issuer });
        }
        let key = KeyPair::generate().map_err(certificate)?;
        let mut parameters = parameters("holdfast-ca", AUTHORITY_DAYS, now)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let pem = parameters.self_signed(&key).map_err(certificate)?.pem();
        write(&key_path, &key.serialize_pem())?;
        write(&pem_path, &pem)?;
        Ok(Self { pem, issuer: Issuer::new(parameters, key) })
    }

    /// The authority's own certificate.
    pub(crate) fn der(&self) -> Result<CertificateDer<'static>, ServeError> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).map_err(certificate)
    }

    /// A new key and certificate, both as PEM, for a user who is in a group, or none if it is empty.
    pub(crate) fn issue_client(
        &self,
        user: &str,
        group: &str,
        days: u16,
        now: Timestamp,
    ) -> Result<(String, String), ServeError> {
        let key = KeyPair::generate().map_err(certificate)?;
        let mut parameters = parameters(user, days.into(), now)?;
        if !group.is_empty() {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let signed = parameters.signed_by(&key, &self.issuer).map_err(certificate)?;
        Ok((key.serialize_pem(), signed.pem()))
    }

    /// A new key and certificate for a server that is reached at `address`, and by other names and addresses.
    fn issue(&self, address: IpAddr, names: &[String], now: Timestamp) -> Result<CertifiedKey, ServeError> {
        let key = KeyPair::generate().map_err(certificate)?;
        let mut parameters = parameters("holdfast-apiserver", SERVER_DAYS, now)?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for name in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", &host] {
            // A host's name need not be one that a certificate can hold.
            if let Ok(name) = name.try_into() {
                parameters.subject_alt_names.push(SanType::DnsName(name));
            }
        }
        let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if !address.is_unspecified() && !addresses.contains(&address) {
            addresses.push(address);
        }
        for name in names {
            match name.parse() {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(_) => {
                    let known = name.as_str().try_into().map_err(|_| ServeError::Name(name.clone()))?;
                    parameters.subject_alt_names.push(SanType::DnsName(known));
                }
            }
        }
        parameters.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
        let signed = parameters.signed_by(&key, &self.issuer).map_err(certificate)?;
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        CertifiedKey::from_der(vec![signed.der().clone()], private, &provider()).map_err(certificate)
    }
}

/// The server's side of TLS, whose certificate can be renewed while it runs.
pub(crate) struct Identity {
    authority: Authority,
    address: IpAddr,
    names: Vec<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity of a server that is reached at `address`, and by `names`.
    pub(crate) fn new(
        authority: Authority,
        address: IpAddr,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<Arc<Self>, ServeError> {
        let current = RwLock::new(Arc::new(authority.issue(address, &names, now)?));
        Ok(Arc::new(Self { authority, address, names, current }))
    }

    /// Replaces the certificate for new connections.
    pub(crate) fn renew(&self, now: Timestamp) -> Result<(), ServeError> {
        let fresh = Arc::new(self.authority.issue(self.address, &self.names, now)?);
        *self.current.write() = fresh;
        Ok(())
    }

    /// TLS for HTTP/2 and HTTP/1.1 under this identity.
    pub(crate) fn tls(self: &Arc<Self>, clients: &Believed) -> Result<ServerConfig, ServeError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(certificate)?
            .with_client_cert_verifier(clients.asking())
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificate(error: impl std::fmt::Display) -> ServeError {
    ServeError::Certificate(error.to_string())
}

/// A certificate's name and time, from yesterday on: clocks differ.
fn parameters(name: &str, days: i32, now: Timestamp) -> Result<CertificateParams, ServeError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let date = |days: i32| -> Result<_, ServeError> {
        let day = today.checked_add(Span::new().days(days)).map_err(certificate)?;
        let number = |n: i8| u8::try_from(n).map_err(certificate);
        Ok(rcgen::date_time_ymd(day.year().into(), number(day.month())?, number(day.day())?))
    };
    parameters.not_before = date(-1)?;
    parameters.not_after = date(days)?;
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 56);
        let first = Authority::open(folder.path(), now).unwrap();
        let second = Authority::open(folder.path(), now).unwrap();
        assert_eq!(first.pem, second.pem);
        let identity = Identity::new(second, Ipv4Addr::LOCALHOST.into(), Vec::new(), now).unwrap();
        let before = identity.current.read().clone();
        identity.renew(now).unwrap();
        assert_ne!(before.cert, identity.current.read().cert);
        std::fs::remove_file(folder.path().join("ca.key")).unwrap();
        assert!(matches!(Authority::open(folder.path(), now), Err(ServeError::Damaged { .. })));
    }
}
