//! What there is of containers, after a restart or a doubt.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::failure;
use super::live::{Kind, Live};
use super::{Inner, Local, cgroup_name, runtime, task};
use crate::backend::{Applied, BackendError, Exit, Found, FoundState, FoundTask};
use crate::cgroup::Cgroup;
use crate::model::{ContainerId, Run, Signal};
use crate::stdio::segment;
use crate::stdio::segment::ProcessExit;

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

/// What there is of all.
pub(super) async fn inventory(
    backend: &Local,
) -> Result<HashMap<ContainerId, Found>, BackendError> {
    let ready = backend.inner.processes.ready().await;
    ready.map_err(|error| failure::keeper(error.to_string(), Applied::No))?;
    let (ids, runs) = backend
        .blocking(|inner| Ok((inner.roots.ids()?, all_runs(inner)?)))
        .await?;
    let mut all: HashMap<ContainerId, Found> = HashMap::new();
    for id in ids {
        all.entry(id).or_default().container = true;
    }
    for (id, run) in runs {
        let task = run_of(backend, id, run).await?;
        // In the order of runs: the last one counts.
        all.entry(id).or_default().task = task;
    }
    Ok(all)
}

/// The runs that have control groups, by container, the oldest first. Other servers of this host have theirs in
/// the same place: ours are those of containers that have a root here.
fn all_runs(inner: &Inner) -> Result<Vec<(ContainerId, Run)>, BackendError> {
    let names = inner.cgroups.names()?;
    let runs = names.iter().filter_map(|name| parse(name));
    let mut runs: Vec<_> = runs.filter(|(id, _)| inner.roots.is_there(*id)).collect();
    runs.sort_unstable();
    Ok(runs)
}

fn runs_of(inner: &Inner, id: ContainerId) -> Result<Vec<Run>, BackendError> {
    let runs = all_runs(inner)?.into_iter();
    Ok(runs
        .filter(|(of, _)| *of == id)
        .map(|(_, run)| run)
        .collect())
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
    let look = move |inner: &Inner| {
        let waits = runtime::waits_for_its_start(inner, &name);
        Ok((waits, cgroup.is_frozen()?))
    };
    let state = match (found.state, backend.blocking(look).await?) {
        (FoundState::Running, (true, _)) => FoundState::Created,
        (FoundState::Running, (_, true)) => FoundState::Paused,
        (state, _) => state,
    };
    Ok(Some(FoundTask { state, ..found }))
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
        None => watched(backend, stream, pid, &live).await,
    };
    Ok(Some(FoundTask { pid, state }))
}

fn stopped(live: &Arc<Live>, exit: ProcessExit) -> FoundState {
    let exit = live.exit_of(exit);
    live.settle(exit.clone());
    FoundState::Stopped(exit)
}

/// A process that should run: it is taken up if it does, and if not nobody knows how it ended.
async fn watched(backend: &Local, stream: &str, pid: u32, live: &Arc<Live>) -> FoundState {
    if live.process().is_err() {
        let is_it = live.cgroup.contains(pid);
        let taken = match is_it {
            true => backend
                .inner
                .processes
                .take_up(stream, pid, live.on_exit())
                .await
                .ok(),
            false => None,
        };
        match taken {
            Some(process) => {
                live.is(process);
                backend.inner.lives.hold(stream, live);
            }
            None => live.settle(Exit::lost()),
        }
    }
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
    let killed = cgroup.clone();
    backend
        .blocking(move |_| Ok(killed.kill(Signal::KILL)?))
        .await?;
    backend.inner.processes.discard(stream).await;
    task::remove(backend, &cgroup).await
}
