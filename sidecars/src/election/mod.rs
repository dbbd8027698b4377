//! Who of several processes works for a driver: the one that holds the lease.
//!
//! The protocol is that of client-go's leader election on `coordination.k8s.io/v1` Leases, with the names that upstream's
//! sidecars give them, so that ours and upstream's never work at the same time. Each controller has a lease of its own.
//! Different from upstream: a candidate watches the lease, and takes it in the moment in which it is given back or runs
//! out; a lease is given back when the work under it has come to its end; and who loses it stops and is a candidate
//! again, where upstream ends the process.

mod decide;
mod fence;
mod guarded;

use std::{
    collections::BTreeMap,
    fmt,
    pin::{Pin, pin},
    time::Duration,
};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::watcher::{self, watch_object},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::decide::{Step, decide};
pub(crate) use self::fence::Fence;
use self::fence::Renewed;
use crate::{
    health::Health,
    metrics::Metrics,
    writes::{self, ApiError},
};

/// The shortest and the longest pause after a request for a lease that failed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How leaders are elected. [`Election::new`] gives upstream's values.
#[derive(Clone)]
pub struct Election {
    /// The API. Leases, and the writes of each term, go over connections of their own.
    pub api: Config,
    /// Where the leases are.
    pub namespace: String,
    /// Who we are: unlike every other candidate, and unlike our own earlier lives.
    pub identity: String,
    /// After this time without a renewal others take the lease. Whole seconds. Default 15 s.
    pub lease_duration: Duration,
    /// After this time without a successful renewal its holder stops; shorter than `lease_duration`. Default 10 s.
    pub renew_deadline: Duration,
    /// Between renewals, and between looks at another's lease. Default 5 s.
    pub retry_period: Duration,
    /// Labels of the lease.
    pub labels: BTreeMap<String, String>,
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, identity, .. } = self;
        f.debug_struct("Election")
            .field("namespace", namespace)
            .field("identity", identity)
            .finish_non_exhaustive()
    }
}

/// Durations with which two could lead at the same time, or nobody for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadElection {
    /// Others would take the lease before its holder stops.
    #[error("the lease duration must be longer than the renew deadline")]
    LeaseTooShort,
    /// One failed renewal would end a term (client-go asks for the same factor).
    #[error("the renew deadline must be longer than 1.2 times the retry period")]
    DeadlineTooShort,
    /// A Lease counts whole seconds.
    #[error("the lease duration must be whole seconds, and at least one")]
    NoSeconds,
}

impl Election {
    /// With upstream's durations. The identity is `host` and something random: the names of hosts are not unlike each
    /// other where pods share the host's network, and what an earlier life of this process left under way is not ours.
    #[must_use]
    pub fn new(api: Config, namespace: String, host: &str) -> Self {
        Self {
            api,
            namespace,
            identity: format!("{host}-{:08x}", rand::random::<u32>()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(5),
            labels: BTreeMap::new(),
        }
    }

    /// Whether the durations fit each other.
    ///
    /// # Errors
    /// When they do not.
    pub fn check(&self) -> Result<(), BadElection> {
        if self.lease_duration.as_secs() == 0 || self.lease_duration.subsec_nanos() != 0 {
            return Err(BadElection::NoSeconds);
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(BadElection::LeaseTooShort);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            return Err(BadElection::DeadlineTooShort);
        }
        Ok(())
    }

    /// A candidate for the lease of this name.
    pub(crate) fn candidate(
        &self,
        lease: &str,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Candidate, kube::Error> {
        let name = sanitize(lease);
        metrics.leads(&name, false);
        Ok(Candidate {
            api: Api::namespaced(Client::try_from(self.api.clone())?, &self.namespace),
            me: sanitize(&self.identity),
            name,
            election: self.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
        })
    }

    /// A client for what is written in a term.
    pub(crate) fn client(&self, fence: &Fence) -> Result<Client, kube::Error> {
        Ok(fence.client(&guarded::client(&self.api, fence.clone())?))
    }
}

/// As upstream writes names of leases and holders: letters, digits and `-`, the last one no `-`.
fn sanitize(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    if name.ends_with('-') { format!("{name}X") } else { name }
}

/// One that would like to lead.
pub(crate) struct Candidate {
    api: Api<Lease>,
    me: String,
    name: String,
    election: Election,
    metrics: Metrics,
    health: Health,
}

type Changes = Pin<Box<dyn Stream<Item = Result<Option<Lease>, watcher::Error>> + Send>>;

/// The lease as last seen, and since when it is as it is.
struct Seen {
    lease: Option<Lease>,
    since: Instant,
}

impl Seen {
    fn now(lease: Option<Lease>) -> Self {
        Self { lease, since: Instant::now() }
    }

    /// Takes over what was read.
    fn update(&mut self, lease: Option<Lease>) {
        let version =
            |lease: &Option<Lease>| lease.as_ref().map(|lease| (lease.uid(), lease.resource_version()));
        if version(&self.lease) != version(&lease) {
            *self = Self::now(lease);
        }
    }
}

impl Candidate {
    /// Waits until the lease is ours; `None` when cancelled first.
    pub(crate) async fn lead(&self, cancel: &CancellationToken) -> Option<Term<'_>> {
        tokio::select! {
            () = cancel.cancelled() => None,
            term = self.take() => Some(term),
        }
    }

    async fn take(&self) -> Term<'_> {
        let mut changes: Changes = Box::pin(watch_object(self.api.clone(), &self.name));
        let mut failures = Failures::default();
        let mut seen: Option<Seen> = None;
        let mut said = String::new();
        loop {
            match self.read().await {
                Ok(lease) => match &mut seen {
                    Some(seen) => seen.update(lease),
                    None => seen = Some(Seen::now(lease)),
                },
                Err(error) => {
                    failures.pause(&self.name, "read", &error).await;
                    continue;
                }
            }
            let Some(now) = &seen else { continue };
            let spec = now.lease.as_ref().map(|lease| lease.spec.as_ref());
            let step = decide(spec, now.since.elapsed(), &self.me, self.election.lease_duration);
            if let Step::Wait(left) = step {
                let holder = spec.flatten().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
                if holder != said {
                    info!(lease = self.name, holder, "somebody else leads: waiting");
                    said = holder;
                }
                // A change may be the lease given back. A watch that does not work costs no more than time.
                tokio::select! {
                    () = sleep(left.min(self.election.retry_period)) => {}
                    Some(Ok(_)) = changes.next() => {}
                }
                continue;
            }
            let before = Renewed::now();
            match self.write(step, now.lease.as_ref()).await {
                Ok(lease) => {
                    info!(lease = self.name, holder = self.me, "leading");
                    self.metrics.leads(&self.name, true);
                    let fence = Fence::term(before, self.election.renew_deadline);
                    self.health.leads(&self.name, fence.clone());
                    return Term { candidate: self, lease, fence };
                }
                // Somebody was faster.
                Err(error) if error.is_conflict() => {}
                Err(error) => failures.pause(&self.name, "take", &error).await,
            }
        }
    }

    async fn read(&self) -> Result<Option<Lease>, ApiError> {
        writes::once("get the Lease", &|| self.api.get_opt(&self.name), self.election.retry_period).await
    }

    /// Makes or takes the lease, if it is still what was read.
    async fn write(&self, step: Step, lease: Option<&Lease>) -> Result<Lease, ApiError> {
        let params = PostParams::default();
        let mut new = lease.cloned().unwrap_or_else(|| self.unmade());
        let transitions = new.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let mut spec = self.spec();
        spec.acquire_time = match (step, &new.spec) {
            (Step::Take { changes_hands: false }, Some(before)) => before.acquire_time.clone(),
            _ => spec.renew_time.clone(),
        };
        spec.lease_transitions =
            Some(transitions.saturating_add(i32::from(step == Step::Take { changes_hands: true })));
        new.spec = Some(spec);
        new.labels_mut().extend(self.election.labels.clone());
        let within = self.election.retry_period;
        match lease {
            None => writes::once("create the Lease", &|| self.api.create(&params, &new), within).await,
            Some(_) => {
                writes::once("take the Lease", &|| self.api.replace(&self.name, &params, &new), within).await
            }
        }
    }

    fn unmade(&self) -> Lease {
        let name = Some(self.name.clone());
        Lease { metadata: ObjectMeta { name, ..ObjectMeta::default() }, spec: None }
    }

    fn spec(&self) -> LeaseSpec {
        let seconds = i32::try_from(self.election.lease_duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }
    }
}

/// The time in which the lease is ours.
pub(crate) struct Term<'a> {
    candidate: &'a Candidate,
    /// As last written.
    lease: Lease,
    fence: Fence,
}

/// Why a term ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{0:?} holds it now")]
    Taken(String),
    #[error("it could not be renewed in time")]
    NotRenewed,
}

impl Term<'_> {
    /// What all that is written in this term passes.
    pub(crate) fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Renews the lease for as long as that works.
    pub(crate) async fn hold(&mut self) -> Lost {
        loop {
            sleep(self.candidate.election.retry_period.min(self.fence.left())).await;
            let renewed = match self.fence.left() {
                Duration::ZERO => None,
                left => timeout(left, self.renew()).await.ok(),
            };
            let lost = match renewed {
                // What was answered too late says nothing of what others did since.
                Some(Ok(())) if !self.fence.left().is_zero() => continue,
                Some(Err(lost)) => lost,
                Some(Ok(())) | None => Lost::NotRenewed,
            };
            self.fence.end();
            self.candidate.metrics.leads(&self.candidate.name, false);
            return lost;
        }
    }

    /// Tries until it is done, or somebody else has it.
    async fn renew(&mut self) -> Result<(), Lost> {
        let Candidate { name, me, .. } = self.candidate;
        let mut failures = Failures::default();
        loop {
            let before = Renewed::now();
            match self.candidate.write(Step::Take { changes_hands: false }, Some(&self.lease)).await {
                Ok(lease) => {
                    self.lease = lease;
                    self.fence.extend(before);
                    return Ok(());
                }
                // Somebody changed it, or an earlier renewal did whose answer was lost; or it is not there any more.
                Err(error) if error.is_conflict() || error.is_not_found() => {
                    match self.candidate.read().await {
                        Ok(Some(now)) => {
                            let holder = now.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                            if holder != Some(me) {
                                return Err(Lost::Taken(holder.unwrap_or_default().to_owned()));
                            }
                            self.lease = now;
                        }
                        // Whoever finds none may make one: it is not ours any more.
                        Ok(None) => return Err(Lost::Taken(String::new())),
                        Err(error) => failures.pause(name, "read", &error).await,
                    }
                }
                Err(error) => failures.pause(name, "renew", &error).await,
            }
        }
    }

    /// Gives the lease back, once nothing is done under it any more: others take it at once.
    pub(crate) async fn release(mut self) {
        let within = self.fence.left();
        self.fence.end();
        let Candidate { api, name, metrics, .. } = self.candidate;
        metrics.leads(name, false);
        if let Some(spec) = self.lease.spec.as_mut() {
            // As client-go leaves it: with a duration of 0 it would not be valid.
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        let lease = &self.lease;
        // Not again: a second attempt could meet a lease that is somebody else's.
        match writes::once("release the Lease", &|| api.replace(name, &params, lease), within).await {
            Ok(_) => debug!(lease = name, "given back"),
            Err(error) => {
                warn!(lease = name, %error, "the lease was not given back: others wait until it runs out")
            }
        }
    }
}

/// Requests that failed in a row; said once.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    async fn pause(&mut self, lease: &str, verb: &str, error: &ApiError) {
        if self.0 == 0 {
            warn!(lease, %error, "cannot {verb} the lease: trying again");
        }
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.0.min(10)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        sleep(pause).await;
    }
}

/// Runs `work` under a lease, again and again, until cancelled; whoever loses the lease stops at once.
///
/// `work` is started with the fence of its term and ends in order when cancelled. A crash leaves a lease that runs out.
pub(crate) async fn run_elected<W, F>(candidate: &Candidate, cancel: &CancellationToken, work: W)
where
    W: Fn(Fence) -> F,
    F: Future<Output = ()>,
{
    while let Some(mut term) = candidate.lead(cancel).await {
        let lost = {
            let mut work = pin!(work(term.fence()));
            tokio::select! {
                // Cancelled, and come to its end.
                () = &mut work => None,
                lost = term.hold() => Some(lost),
            }
        };
        match lost {
            None => return term.release().await,
            Some(why) => {
                warn!(lease = candidate.name, %why, "the lease was lost: stopped, and waiting for it again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_upstreams() {
        assert_eq!(
            sanitize("external-attacher-leader-hostpath.csi.k8s.io"),
            "external-attacher-leader-hostpath-csi-k8s-io"
        );
        assert_eq!(sanitize("a/b_c."), "a-b-c-X");
    }
}
