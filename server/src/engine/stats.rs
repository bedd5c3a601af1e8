//! What running containers use: one page of samples, or rounds of them.
//!
//! Which containers run is known from the snapshots; one call of the backend reads what they use. Whatever has
//! ended meanwhile is left out. Nothing is kept between calls: a stream of rounds remembers its own last samples.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::query::{ContainerFilter, ContainerPosition};
use super::{Engine, Error};
use crate::backend::{ContainerBackend, Sample};
use crate::model::{Container, ContainerId, Run, State, limits};

/// What a container used at one moment.
#[derive(Debug, Clone)]
pub struct ContainerSample {
    /// The container.
    pub container: Arc<Container>,
    /// What it used.
    pub sample: Sample,
    /// Average number of processors used since the last sample of the same run in this stream; `None` if this is the
    /// first one.
    pub cores: Option<f64>,
}

/// Some of the samples, in the containers' order.
#[derive(Debug, Clone)]
pub struct StatsPage {
    /// Those of containers that still run.
    pub samples: Vec<ContainerSample>,
    /// Where it goes on; `None` if nothing is left.
    pub next: Option<ContainerPosition>,
}

/// A part of a round.
#[derive(Debug, Clone)]
pub struct RoundPart {
    /// The round's number, from 1.
    pub round: u64,
    /// At most [`MAX_PAGE`](limits::MAX_PAGE) samples; none if nothing runs.
    pub samples: Vec<ContainerSample>,
    /// Whether it is the round's last part.
    pub is_last: bool,
}

impl Engine {
    /// What at most `limit` matching containers use that run, in order of creation, after `after`. One call of the
    /// backend, if any run.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub async fn stats(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Result<StatsPage, Error> {
        self.core.require_backend()?;
        // One more than fits tells whether there is another page.
        let mut containers = match running(filter) {
            Some(filter) => self.list(&filter, after, limit + 1),
            None => Vec::new(),
        };
        let more = containers.len() > limit;
        containers.truncate(limit);
        let last = containers.last().map(|last| ContainerPosition::of(last));
        let samples = match containers.is_empty() {
            true => Vec::new(),
            false => self.core.backend.usage(&containers).await?,
        };
        let read = containers.into_iter().zip(samples);
        let samples = read.filter_map(|(container, sample)| {
            Some(ContainerSample {
                container: self.still_runs(&container)?,
                sample: sample?,
                cores: None,
            })
        });
        Ok(StatsPage {
            samples: samples.collect(),
            next: last.filter(|_| more),
        })
    }

    /// Samples of all matching containers that run, every `interval`, also of those that start later.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn stats_rounds(
        &self,
        filter: ContainerFilter,
        interval: Duration,
    ) -> Result<StatsRounds, Error> {
        self.core.require_backend()?;
        Ok(StatsRounds::new(self.clone(), filter, interval))
    }

    /// The container as it is now, if the run that was read is not over: what was read is that run's then.
    fn still_runs(&self, read: &Container) -> Option<Arc<Container>> {
        let now = self.get(&read.id.to_string()).ok()?;
        (now.run == read.run && has_usage(now.state)).then_some(now)
    }
}

/// Whether a container in this state has processes, and not only perhaps.
fn has_usage(state: State) -> bool {
    state.has_process() && state != State::Starting
}

/// The filter for those that run; `None` if it wants only others.
fn running(filter: &ContainerFilter) -> Option<ContainerFilter> {
    let wanted = |state: &State| filter.states.is_empty() || filter.states.contains(state);
    let states: HashSet<_> = State::ALL
        .into_iter()
        .filter(|state| has_usage(*state) && wanted(state))
        .collect();
    (!states.is_empty()).then(|| ContainerFilter {
        states,
        ..filter.clone()
    })
}

/// Rounds of samples. A round begins when it is asked for, an interval after the last one has begun at the earliest:
/// whoever is slow gets fewer rounds, not older ones.
#[derive(Debug)]
pub struct StatsRounds {
    engine: Engine,
    filter: ContainerFilter,
    interval: Interval,
    round: u64,
    /// Where the present round goes on; `None` between rounds.
    after: Option<ContainerPosition>,
    /// The last of each container that exists.
    last: HashMap<ContainerId, Read>,
}

/// When a run's CPU time was read, and how much it was.
#[derive(Debug, Clone, Copy)]
struct Read {
    run: Run,
    instant: Instant,
    cpu: Duration,
}

impl StatsRounds {
    fn new(engine: Engine, filter: ContainerFilter, every: Duration) -> Self {
        let mut interval = interval(every);
        // Rounds that were missed stay so, and the next one is a whole interval away.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            engine,
            filter,
            interval,
            round: 0,
            after: None,
            last: HashMap::new(),
        }
    }

    /// The next part of a round, of the next round after its last one.
    ///
    /// # Errors
    /// [`Error::Backend`]; there is nothing after it.
    pub async fn next(&mut self) -> Result<RoundPart, Error> {
        if self.after.is_none() {
            self.interval.tick().await;
            self.round += 1;
            let registry = &self.engine.core.registry;
            self.last.retain(|id, _| registry.contains(*id));
        }
        let page = self
            .engine
            .stats(&self.filter, self.after, limits::MAX_PAGE)
            .await?;
        self.after = page.next;
        let mut samples = page.samples;
        for sample in &mut samples {
            sample.cores = self.cores(sample);
        }
        Ok(RoundPart {
            round: self.round,
            samples,
            is_last: page.next.is_none(),
        })
    }

    /// The average since the last sample, and keeps in mind what the next one needs.
    fn cores(&mut self, sample: &ContainerSample) -> Option<f64> {
        let id = sample.container.id;
        let now = Read {
            run: sample.container.run,
            instant: sample.sample.instant,
            cpu: sample.sample.usage.cpu.total,
        };
        let before = self
            .last
            .insert(id, now)
            .filter(|last| last.run == now.run)?;
        let elapsed = now.instant.saturating_duration_since(before.instant);
        let used = now.cpu.saturating_sub(before.cpu);
        (!elapsed.is_zero()).then(|| used.as_secs_f64() / elapsed.as_secs_f64())
    }
}
