//! What there is of containers, after a restart or a doubt.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::failure;
use super::live::{Kind, Live};
use super::{Inner, Local, cgroup_name, runtime, task};
use crate::backend::{Applied, BackendError, Exit, Found, FoundState, FoundTask};
use crate::cgroup::Cgroup;
use crate::model::{ContainerId, Run};
use crate::stdio::Process;
use crate::stdio::segment;
use crate::stdio::segment::ProcessExit;

/// How many runs the keeper is asked about at a time.
const ASKED_AT_ONCE: usize = 64;

/// What there is of one container.
pub(super) async fn find(backend: &Local, id: ContainerId) -> Result<Found, BackendError> {
    let (container, runs) = backend
        .blocking(move |inner| Ok((inner.roots.is_there(id), runs_of(inner, id)?)))
        .await?;
    let task = match runs.last() {
        Some(run) => run_of(backend, id, *run).await?,
        None => None,
    };
    Ok(Found { container, task })
}

/// What there is of all. The keeper has told of most when it was connected to, and is asked about the others.
pub(super) async fn inventory(
    backend: &Local,
) -> Result<HashMap<ContainerId, Found>, BackendError> {
    let ready = backend.inner.processes.ready().await;
    ready.map_err(|error| failure::keeper(error.to_string(), Applied::No))?;
    let Survey {
        ids,
        mut runs,
        unclear,
    } = backend.blocking(survey).await?;
    let asking = unclear.into_iter().map(|(id, run)| async move {
        let task = run_of(backend, id, run).await?;
        Ok::<_, BackendError>((id, run, task))
    });
    let asked: Vec<_> = stream::iter(asking)
        .buffer_unordered(ASKED_AT_ONCE)
        .try_collect()
        .await?;
    runs.extend(asked);
    // The last run of each counts.
    runs.sort_unstable_by_key(|(id, run, _)| (*id, *run));
    let container = Found {
        container: true,
        ..Found::default()
    };
    let mut all: HashMap<_, _> = ids.into_iter().map(|id| (id, container.clone())).collect();
    for (id, _, task) in runs {
        all.entry(id).or_default().task = task;
    }
    Ok(all)
}

/// What a look at the files of all containers says.
struct Survey {
    ids: Vec<ContainerId>,
    runs: Vec<(ContainerId, Run, Option<FoundTask>)>,
    /// Runs that the keeper must be asked about.
    unclear: Vec<(ContainerId, Run)>,
}

fn survey(inner: &Inner) -> Result<Survey, BackendError> {
    let ids = inner.roots.ids()?;
    let there: HashSet<_> = ids.iter().copied().collect();
    let (mut runs, mut unclear) = (Vec::new(), Vec::new());
    for (id, run) in runs_in(inner, |id| there.contains(&id))? {
        match known(inner, id, run)? {
            Some(task) => runs.push((id, run, Some(task))),
            None => unclear.push((id, run)),
        }
    }
    Ok(Survey { ids, runs, unclear })
}

/// A run as far as it is known without asking the keeper. One that runs is watched from now on.
fn known(inner: &Inner, id: ContainerId, run: Run) -> Result<Option<FoundTask>, BackendError> {
    let name = cgroup_name(id, run);
    let Some(learnt) = inner.processes.learnt(&name) else {
        return Ok(None);
    };
    let cgroup = inner.cgroups.open(&name);
    let make = || Live::new(Kind::Main, cgroup.clone(), None);
    let live = inner.lives.get(&name).unwrap_or_else(make);
    let pid = learnt.pid;
    if let Some(exit) = learnt.exit {
        let state = stopped(&live, exit);
        return Ok(Some(FoundTask { pid, state }));
    }
    if live.process().is_err() {
        let Some(process) = taken_up(inner, &name, pid, &live) else {
            // It is on its way out.
            return Ok(None);
        };
        live.is(process);
        inner.lives.hold(&name, &live);
    }
    let state = state_of_run(inner, &cgroup, state_of(&live))?;
    Ok(Some(FoundTask { pid, state }))
}

/// One whose process runs may be paused, or wait for a runtime to start it.
fn state_of_run(
    inner: &Inner,
    cgroup: &Cgroup,
    of_process: FoundState,
) -> Result<FoundState, BackendError> {
    Ok(match of_process {
        FoundState::Running if runtime::waits_for_its_start(inner, cgroup.name()) => {
            FoundState::Created
        }
        FoundState::Running if cgroup.is_frozen()? => FoundState::Paused,
        other => other,
    })
}

fn runs_of(inner: &Inner, id: ContainerId) -> Result<Vec<Run>, BackendError> {
    let is_there = inner.roots.is_there(id);
    let runs = runs_in(inner, |of| of == id && is_there)?.into_iter();
    Ok(runs.map(|(_, run)| run).collect())
}

/// The runs that have control groups, by container, the oldest first, of those that are `ours`. Other servers of this
/// host have theirs in the same place: ours are those of containers that have a root here.
fn runs_in(
    inner: &Inner,
    ours: impl Fn(ContainerId) -> bool,
) -> Result<Vec<(ContainerId, Run)>, BackendError> {
    let names = inner.cgroups.names()?;
    let runs = names.iter().filter_map(|name| parse(name));
    let mut runs: Vec<_> = runs.filter(|(id, _)| ours(*id)).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// `ID.RUN`.
fn parse(name: &str) -> Option<(ContainerId, Run)> {
    let (id, run) = name.split_once('.')?;
    Some((id.parse().ok()?, Run(run.parse().ok()?)))
}

async fn run_of(
    backend: &Local,
    id: ContainerId,
    run: Run,
) -> Result<Option<FoundTask>, BackendError> {
    let name = cgroup_name(id, run);
    let cgroup = backend.inner.cgroups.open(&name);
    let directory = backend.inner.directories.log(id);
    let make = || Live::new(Kind::Main, cgroup.clone(), None);
    let found = process(backend, &name, directory, run.0, make).await?;
    let Some(found) = found else {
        return unrecorded(backend, &name, cgroup).await;
    };
    let FoundTask { pid, state } = found;
    let look = move |inner: &Inner| state_of_run(inner, &cgroup, state);
    let state = backend.blocking(look).await?;
    Ok(Some(FoundTask { pid, state }))
}

/// Where the process of a stream is: by the keeper's word, or by what is recorded. One that runs is watched from
/// now on; `make` makes what watches it.
pub(super) async fn process(
    backend: &Local,
    stream: &str,
    directory: PathBuf,
    run: u64,
    make: impl FnOnce() -> Arc<Live>,
) -> Result<Option<FoundTask>, BackendError> {
    let processes = &backend.inner.processes;
    let kept = processes.find(stream).await;
    let kept = kept.map_err(|error| failure::keeper(error.to_string(), Applied::No))?;
    let is_kept = kept.is_some();
    let (pid, exit, launched) = match kept {
        Some(state) => (Some(state.pid), state.exit, state.launched),
        None => {
            let look = move |_: &Inner| {
                let recorded = segment::process(&directory, run).unwrap_or_default();
                // One that was made just before this server was there.
                let pid = recorded.pid.or_else(|| runtime::left_by_exec(&directory));
                Ok((pid, recorded.exit, true))
            };
            backend.blocking(look).await?
        }
    };
    let live = backend.inner.lives.get(stream).unwrap_or_else(make);
    let Some(pid) = pid else {
        return Ok(None);
    };
    let state = match exit {
        Some(exit) => stopped(&live, exit),
        None if !launched => FoundState::Created,
        None => watched(backend, stream, pid, is_kept, &live).await,
    };
    Ok(Some(FoundTask { pid, state }))
}

fn stopped(live: &Arc<Live>, exit: ProcessExit) -> FoundState {
    let exit = live.exit_of(exit);
    live.settle(exit.clone());
    FoundState::Stopped(exit)
}

/// A process that should run: it is taken up if it does. If not, the keeper tells how it ended if it has kept it, or
/// nobody knows.
async fn watched(
    backend: &Local,
    stream: &str,
    pid: u32,
    is_kept: bool,
    live: &Arc<Live>,
) -> FoundState {
    let inner = &backend.inner;
    if live.process().is_err() {
        let ending = || is_kept.then(|| inner.processes.await_end(stream, live.on_exit()));
        match taken_up(inner, stream, pid, live).or_else(ending) {
            Some(process) => {
                live.is(process.clone());
                inner.lives.hold(stream, live);
                inner.processes.watch(&process).await;
            }
            None => live.settle(Exit::lost()),
        }
    }
    state_of(live)
}

/// The process with this number, if it is the one of `live`: numbers are used again.
fn taken_up(inner: &Inner, stream: &str, pid: u32, live: &Arc<Live>) -> Option<Process> {
    let taken = inner.processes.take_up(stream, pid, live.on_exit());
    // It is held by now, so what is found inside is this one.
    taken.ok().filter(|_| live.cgroup.contains(pid))
}

fn state_of(live: &Live) -> FoundState {
    let exit = live.exit().borrow().clone();
    exit.map_or(FoundState::Running, FoundState::Stopped)
}

/// There is a control group, and nobody knows of a process: a start was cut off, by the keeper's death. What there
/// is of it is nothing that anybody was told of.
async fn unrecorded(
    backend: &Local,
    name: &str,
    cgroup: Cgroup,
) -> Result<Option<FoundTask>, BackendError> {
    tracing::info!(run = name, "what a start has left is removed");
    end(backend, name, cgroup).await?;
    Ok(None)
}

/// Kills and removes all there is of a container's runs.
pub(super) async fn discard(backend: &Local, id: ContainerId) -> Result<(), BackendError> {
    let runs = backend.blocking(move |inner| runs_of(inner, id)).await?;
    for run in runs {
        let name = cgroup_name(id, run);
        let cgroup = backend.inner.cgroups.open(&name);
        end(backend, &name, cgroup).await?;
    }
    Ok(())
}

async fn end(backend: &Local, stream: &str, cgroup: Cgroup) -> Result<(), BackendError> {
    backend.inner.processes.discard(stream).await;
    task::remove(backend, &cgroup).await
}
