//! Recording an exec.

use std::sync::Arc;
use std::time::SystemTime;

use super::order::NewExec;
use super::{LiveExec, Outcome};
use crate::engine::Error;
use crate::engine::container::actor::Actor;
use crate::engine::container::record::ExecChange;
use crate::model::exec::Leash;
use crate::model::{EventKind, Exec, ExecId, ExecState, limits};

impl Actor {
    pub(super) async fn create_exec(&mut self, new: NewExec) {
        let limit = limits::MAX_LIVE_EXECS;
        if self.execs.live().count() >= limit {
            let container = self.record.container().id.to_string();
            let error = Error::TooManyExecs { container, limit };
            return drop(new.reply.send(Err(error)));
        }
        let NewExec {
            cause,
            create,
            process,
            mut claim,
            reply,
        } = new;
        let container = self.record.container();
        let exec = Exec {
            id: ExecId::generate(),
            container: container.id,
            run: container.run,
            labels: Arc::new(create.labels),
            terminal_size: create.spec.process.terminal,
            spec: Arc::new(create.spec),
            process: Arc::new(process),
            state: ExecState::Created,
            pid: None,
            exit_status: None,
            failure: None,
            create_time: SystemTime::now(),
            start_time: None,
            end_time: None,
            cause: cause.clone(),
            key: claim.as_ref().map(|claim| claim.key().clone()),
            leash: None,
            remains: false,
            signaled: None,
        };
        let id = exec.id;
        let answer = match claim
            .as_mut()
            .map(|claim| claim.answered(&exec))
            .transpose()
        {
            Ok(answer) => answer,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let live = LiveExec::new(exec);
        let draft = self
            .record
            .draft_beside()
            .exec(ExecChange::make(live.exec.clone(), live.publish.clone()))
            .event(EventKind::ExecCreated { exec: id }, Some(cause))
            .with(answer);
        if let Err(error) = self.record.commit(draft).await {
            return drop(reply.send(Err(error)));
        }
        let exec = live.exec.clone();
        self.execs.by_id.insert(id, live);
        if let Some(claim) = claim {
            claim.complete();
        }
        drop(reply.send(Ok(exec)));
    }

    /// Takes up the execs that the last server knew.
    pub(in super::super) fn restore_execs(&mut self, execs: Vec<Exec>) {
        for exec in execs {
            let mut live = LiveExec::new(exec);
            let is_open = !live.exec.state.is_over() && live.exec.state != ExecState::Created;
            if is_open {
                live.stream = Some(self.core.exec_stream(&live.exec));
            }
            live.is_cut = is_open && live.exec.leash.is_some();
            let id = live.exec.id;
            if live.is_cut {
                self.execs
                    .begin(&tracing::Span::none(), after_grace(Some(id)));
            }
            let snapshot = live.publish.subscribe();
            self.core.execs.insert(&live.exec, snapshot);
            self.execs.by_id.insert(id, live);
        }
    }

    /// The main process's streams were cut by the server's restart, too, or those of a run to come.
    pub(in super::super) fn restore_leash(&mut self) {
        self.is_cut = self.record.container().leash.is_some();
        if self.is_cut {
            self.execs.begin(&tracing::Span::none(), after_grace(None));
        }
    }

    /// Whoever had the streams has not come back: does what was to be done then.
    pub(super) fn leash_is_over(&mut self, id: Option<ExecId>) {
        let leash = match id {
            Some(id) => self.cut_leash(id),
            None => self
                .record
                .container()
                .leash
                .clone()
                .filter(|_| self.is_cut),
        };
        if let Some(leash) = leash {
            let container = self.record.container().id;
            crate::engine::leave::leave(&self.core, container, id, leash, None);
        }
    }

    fn cut_leash(&self, id: ExecId) -> Option<Leash> {
        let live = self.execs.by_id.get(&id)?;
        live.exec.leash.clone().filter(|_| live.is_cut)
    }
}

async fn after_grace(id: Option<ExecId>) -> Outcome {
    tokio::time::sleep(limits::REATTACH_GRACE).await;
    Outcome::LeashOver(id)
}
