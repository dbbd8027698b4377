//! The SnapshotMetadata service: which blocks a snapshot has, and which differ between two
//! (CSI v1.12, alpha; KEP 3314). By where the blocks lie: what two snapshots share was not
//! changed, so nothing is read. A stream is made piece by piece as the client takes it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use holdfast_proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse, snapshot_metadata_server::SnapshotMetadata,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    blocks,
    controller::undeclared,
    error::Error,
    kernel::fiemap,
    operation::Operations,
    server::Driver,
    snapshot::{Snapshot, SnapshotId},
};

/// Runs in one message where the client does not say.
const RUNS: usize = 1024;
/// The most that a client gets in one message: they wait in memory while it does not read. CSI lets the plugin send
/// fewer than were asked for.
const MOST_RUNS: usize = 16 * 1024;
/// How many bytes of the snapshot are looked at for one message at most, so that a client
/// hears something of a large and empty one.
const WINDOW: u64 = 64 << 30;
/// How many streams of one pool there are at once. Each keeps some 300 KiB in memory, for as long as its client
/// likes: one that does not read holds no thread, so the turns of calls do not bound them.
const STREAMS: usize = 32;
/// How often a map is read again that changed while it was read.
const AGAIN: usize = 16;

/// Answers the SnapshotMetadata calls.
#[derive(Debug)]
pub(crate) struct SnapshotMetadataService {
    driver: Arc<Driver>,
    operations: Operations,
    /// The streams that each pool may have still.
    streams: BTreeMap<String, Arc<Semaphore>>,
}

impl SnapshotMetadataService {
    pub(crate) fn new(driver: Arc<Driver>, operations: Operations) -> Self {
        let streams =
            driver.pools.keys().map(|pool| (pool.clone(), Arc::new(Semaphore::new(STREAMS)))).collect();
        Self { driver, operations, streams }
    }

    /// A stream's place among those of its pool; none for what is in no pool, and so has no stream.
    fn take_place(&self, of: &str) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let places = of.split_once('.').and_then(|(pool, _)| self.streams.get(pool));
        let taken = places.map(|places| Arc::clone(places).try_acquire_owned()).transpose();
        // Not waited for: those that have one may never read on.
        taken.map_err(|_| {
            Error::Exhausted(format!(
                "{STREAMS} streams of this pool's snapshots are under way, as many as there can be; read one of them \
                 to its end, or cancel it, and try again"
            ))
        })
    }

    /// Opens what is asked for, and streams it.
    async fn stream<M: Send + 'static>(
        &self,
        method: &'static str,
        of: String,
        open: impl FnOnce(&Driver) -> Result<Reader, Error> + Send + 'static,
        message: fn(i64, Vec<BlockMetadata>) -> M,
    ) -> Result<Response<Messages<M>>, Status> {
        if !self.driver.abilities().block_metadata {
            return Err(undeclared("SNAPSHOT_METADATA_SERVICE"));
        }
        let place = self.take_place(&of)?;
        let driver = self.driver.clone();
        let mut reader = self.operations.run(method, &of, move || open(&driver)).await?.into_inner();
        let capacity = i64::try_from(reader.capacity).unwrap_or(i64::MAX);
        let (sender, receiver) = mpsc::channel(1);
        let operations = self.operations.clone();
        tokio::spawn(async move {
            loop {
                // No thread is held while the client is slow.
                let read = move || {
                    let runs = reader.next();
                    (reader, runs)
                };
                let runs = match operations.piece(&of, read).await {
                    Ok((back, runs)) => {
                        reader = back;
                        runs.map_err(Status::from)
                    }
                    Err(status) => {
                        // Whether the client still hears it or not, this is the end.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                };
                let item = match runs {
                    Ok(Some(runs)) => Ok(message(capacity, runs.into_iter().map(wire).collect())),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let failed = item.is_err();
                // A client that is gone ends the work.
                if sender.send(item).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Messages { messages: ReceiverStream::new(receiver), _place: place }))
    }
}

/// A stream that has its place until it was read to its end, or nobody is there who could.
#[derive(Debug)]
pub(crate) struct Messages<M> {
    messages: ReceiverStream<Result<M, Status>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<M> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(context)
    }
}

/// Reads a stream piece by piece.
#[derive(Debug)]
struct Reader {
    /// What the target is compared with; without it, what the target has is told.
    base: Option<OwnedFd>,
    target: OwnedFd,
    /// The target's size in bytes.
    capacity: u64,
    /// How far it was read.
    position: u64,
    /// The most runs in one message.
    most: usize,
    /// Read and not told yet.
    pending: VecDeque<Range<u64>>,
    /// Whether something was told; an empty stream tells the capacity at least.
    told: bool,
}

impl Reader {
    /// Of a request's fields, checked.
    fn new(
        base: Option<OwnedFd>,
        target: OwnedFd,
        capacity: u64,
        starting_offset: i64,
        max_results: i32,
    ) -> Result<Self, Error> {
        let position = u64::try_from(starting_offset).ok().filter(|offset| *offset <= capacity);
        let position = position.ok_or_else(|| {
            Error::OutOfRange(format!(
                "starting_offset {starting_offset} is not in the snapshot, which has {capacity} bytes"
            ))
        })?;
        let most = match usize::try_from(max_results) {
            Ok(0) => RUNS,
            Ok(most) => most.min(MOST_RUNS),
            Err(_) => {
                return Err(Error::Invalid(format!(
                    "max_results is {max_results}; give a positive number, or 0 for the driver's own"
                )));
            }
        };
        Ok(Self { base, target, capacity, position, most, pending: VecDeque::new(), told: false })
    }

    /// The runs of the next message; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<Range<u64>>>, Error> {
        let stop = self.position.saturating_add(WINDOW).min(self.capacity);
        while self.pending.len() <= self.most && self.position < stop {
            let (runs, end) = self.read()?;
            for run in runs {
                match self.pending.back_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => self.pending.push_back(run),
                }
            }
            self.position = end;
        }
        if self.pending.is_empty() && self.position >= self.capacity && self.told {
            return Ok(None);
        }
        self.told = true;
        let most = self.most.min(self.pending.len());
        Ok(Some(self.pending.drain(..most).collect()))
    }

    /// The runs from the position on, as far as one look at the maps goes, and how far that is.
    fn read(&self) -> Result<(Vec<Range<u64>>, u64), Error> {
        let Some(base) = &self.base else {
            let part = fiemap::map(&self.target, self.position, self.capacity)?;
            return Ok((blocks::allocated(&part.extents, self.position..part.end), part.end));
        };
        for _ in 0..AGAIN {
            let old = fiemap::map(base, self.position, self.capacity)?;
            let new = fiemap::map(&self.target, self.position, old.end)?;
            // A file system may move blocks (btrfs balance) and put others where they were. Two
            // addresses are only comparable when both were valid at one time.
            if fiemap::map(base, self.position, self.capacity)? == old {
                let runs = blocks::changed(&old.extents, &new.extents, self.position..new.end);
                return Ok((runs, new.end));
            }
        }
        Err(Error::Precondition(
            "the pool's file system is moving the snapshots' blocks (a balance?), so they cannot be compared; try \
             again when it has ended"
                .to_owned(),
        ))
    }
}

fn wire(run: Range<u64>) -> BlockMetadata {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    BlockMetadata { byte_offset: bytes(run.start), size_bytes: bytes(run.end - run.start) }
}

/// A snapshot and its opened image.
fn open(driver: &Driver, field: &str, id: &str) -> Result<(Snapshot, OwnedFd), Error> {
    if id.is_empty() {
        return Err(Error::Invalid(format!("{field} is required")));
    }
    let id = SnapshotId::parse(id)?;
    let pool = driver.pool_of_snapshot(&id)?;
    let folder = pool.snapshot_folder(&id)?;
    let snapshot = folder.read_snapshot()?;
    let blocks = pool.backend.blocks(&folder).map_err(|error| pool.explained(&folder, error))?;
    Ok((snapshot, blocks))
}

#[tonic::async_trait]
impl SnapshotMetadata for SnapshotMetadataService {
    type GetMetadataAllocatedStream = Messages<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Messages<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let request = request.into_inner();
        let of = request.snapshot_id.clone();
        let open = move |driver: &Driver| {
            let (snapshot, target) = open(driver, "snapshot_id", &request.snapshot_id)?;
            Reader::new(None, target, snapshot.capacity, request.starting_offset, request.max_results)
        };
        let message = |volume_capacity_bytes, block_metadata| GetMetadataAllocatedResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes,
            block_metadata,
        };
        self.stream("/csi.v1.SnapshotMetadata/GetMetadataAllocated", of, open, message).await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let request = request.into_inner();
        let of = request.target_snapshot_id.clone();
        let open = move |driver: &Driver| {
            let (base, old) = open(driver, "base_snapshot_id", &request.base_snapshot_id)?;
            let (target, new) = open(driver, "target_snapshot_id", &request.target_snapshot_id)?;
            if base.source != target.source {
                return Err(Error::Invalid(format!(
                    "snapshot {} is of volume {} and {} of volume {}; give two of one volume",
                    base.id, base.source, target.id, target.source
                )));
            }
            let pool = driver.pool_of_snapshot(&target.id)?;
            if !pool.backend.abilities().block_metadata {
                return Err(Error::Precondition(format!(
                    "pool {:?} lies on a file system where snapshots are copies and share no blocks, so what changed \
                     is not known; use a pool on xfs (reflink) or btrfs",
                    pool.name
                )));
            }
            Reader::new(Some(old), new, target.capacity, request.starting_offset, request.max_results)
        };
        let message = |volume_capacity_bytes, block_metadata| GetMetadataDeltaResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes,
            block_metadata,
        };
        self.stream("/csi.v1.SnapshotMetadata/GetMetadataDelta", of, open, message).await
    }
}
