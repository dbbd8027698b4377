//! gRPC without messages: bytes go over the wire as they are.

use bytes::{Buf as _, BufMut as _};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Sends bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; source.remaining()];
        source.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// One call of `method`, as `Controller/CreateVolume`, with this body.
pub(crate) async fn send(channel: &Channel, method: &str, body: &[u8]) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = format!("/csi.v1.{method}").parse().unwrap();
    grpc.unary(Request::new(body.to_vec()), path, Raw).await.map(Response::into_inner)
}

/// As [`send`], for a call that is answered with a stream: reads at most so many messages.
pub(crate) async fn send_and_read(
    channel: &Channel,
    method: &str,
    body: &[u8],
    most: usize,
) -> Result<usize, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = format!("/csi.v1.{method}").parse().unwrap();
    let mut stream = grpc.server_streaming(Request::new(body.to_vec()), path, Raw).await?.into_inner();
    let mut read = 0;
    while read < most && stream.message().await?.is_some() {
        read += 1;
    }
    Ok(read)
}
