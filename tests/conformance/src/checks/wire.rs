//! What no typed client sends, and what every error has.

use holdfast_proto::csi;
use prost::Message;
use tonic::Code;

use crate::{
    check::{Check, general},
    failure::{Failure, Verdict, codes, describe, must},
    fixture::{Fixture, requests::NO_SUCH_ID},
    need::{CONTROLLER, CREATE, NOTHING},
    rows::general::{DETAILS, MALFORMED, MESSAGE, UNKNOWN_FIELDS},
    rpc::Rpc,
};

pub(super) const CHECKS: &[Check] = &[
    general!("wire/invalid-utf8-name", MALFORMED, [CREATE], bad_name),
    general!("wire/invalid-utf8-id", MALFORMED, [CONTROLLER], bad_id),
    general!("wire/invalid-utf8-path", MALFORMED, [CREATE], bad_path),
    general!("wire/truncated", MALFORMED, [CREATE], truncated),
    general!("wire/wrong-type", MALFORMED, [CREATE], wrong_type),
    general!("wire/garbage", MALFORMED, [NOTHING], garbage),
    general!("wire/unknown-fields", UNKNOWN_FIELDS, [NOTHING], unknown_fields),
    general!("wire/odd-ids", MALFORMED, [CONTROLLER], odd_ids),
    // At the end of a run these two know the errors of all checks.
    general!("error/message", MESSAGE, [CREATE], message),
    general!("error/details", DETAILS, [CREATE], details),
];

/// How a gRPC library says that it cannot decode a message.
const UNDECODED: [Code; 3] = [Code::Internal, Code::InvalidArgument, Code::Unknown];

/// One field: its number, and bytes.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap_or(u8::MAX)];
    field.extend(bytes);
    field
}

/// Refused, and the plugin is still there.
async fn undecodable(f: &Fixture, rpc: Rpc, message: Vec<u8>) -> Verdict {
    match f.raw(rpc, message).await {
        Ok(_) => return Err(Failure::wrong(codes(&UNDECODED), "OK")),
        Err(status) if UNDECODED.contains(&status.code()) => {}
        Err(status) => return Err(Failure::wrong(codes(&UNDECODED), describe(&status))),
    }
    f.ok(csi::ProbeRequest {}).await.map(|_| ())
}

const NOT_UTF8: &[u8] = b"csi-check-\xff\xc3\x28";

async fn bad_name(f: &Fixture) -> Verdict {
    let mut message = csi::CreateVolumeRequest { name: String::new(), ..f.create_request() }.encode_to_vec();
    message.extend(bytes_field(1, NOT_UTF8));
    undecodable(f, Rpc::CreateVolume, message).await
}

async fn bad_id(f: &Fixture) -> Verdict {
    undecodable(f, Rpc::DeleteVolume, bytes_field(1, NOT_UTF8)).await
}

async fn bad_path(f: &Fixture) -> Verdict {
    let mut message = bytes_field(1, NO_SUCH_ID.as_bytes());
    message.extend(bytes_field(2, b"/\xff"));
    if f.declared().no_node.is_some() {
        return Err(Failure::Skip("the plugin's Node service is left out".to_owned()));
    }
    undecodable(f, Rpc::NodeUnpublishVolume, message).await
}

async fn truncated(f: &Fixture) -> Verdict {
    let message = f.create_request().encode_to_vec();
    // In the middle of its first string.
    undecodable(f, Rpc::CreateVolume, message[..10].to_vec()).await
}

/// The name as a number.
async fn wrong_type(f: &Fixture) -> Verdict {
    undecodable(f, Rpc::CreateVolume, vec![1 << 3, 42]).await
}

async fn garbage(f: &Fixture) -> Verdict {
    undecodable(f, Rpc::Probe, vec![0xff; 64]).await
}

/// Fields of a later version are left alone (proto3).
async fn unknown_fields(f: &Fixture) -> Verdict {
    // Field 1000, of bytes.
    let message = vec![0xc2, 0x3e, 3, b'x', b'y', b'z'];
    if let Err(status) = f.raw(Rpc::Probe, message).await {
        return Err(Failure::code(&[Code::Ok], &status));
    }
    Ok(())
}

/// Ids that look like paths, patterns or code are ids of nothing.
async fn odd_ids(f: &Fixture) -> Verdict {
    let long = "i".repeat(4096);
    for id in
        ["..", ".", "/", "../../etc/passwd", "a/../../b", "*", "%s%n", "\n", "a\0b", "-rf", "$(true)", &long]
    {
        let request = f.delete_request(id);
        f.answers(request, &[Code::Ok, Code::InvalidArgument, Code::NotFound]).await?;
    }
    f.ok(csi::ProbeRequest {}).await.map(|_| ())
}

/// Some errors, for a run that has only these checks.
async fn provoke(f: &Fixture) {
    // What comes is judged elsewhere; here only how it looks.
    let _ = f.call(f.create_named("")).await;
    let _ = f.call(f.delete_request("")).await;
    let volume_id = NO_SUCH_ID.to_owned();
    let _ = f.call(csi::ValidateVolumeCapabilitiesRequest { volume_id, ..Default::default() }).await;
}

async fn message(f: &Fixture) -> Verdict {
    provoke(f).await;
    let seen = f.session.bare_errors.lock().clone();
    must!(seen.is_empty(), "a message in each error", "none in {}", seen.join("; "));
    Ok(())
}

async fn details(f: &Fixture) -> Verdict {
    provoke(f).await;
    let seen = f.session.detailed_errors.lock().clone();
    must!(seen.is_empty(), "no details in any error", "details in {}", seen.join("; "));
    Ok(())
}
