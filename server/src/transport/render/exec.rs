//! Execs and what calls about them answer.

use wharf_api::v1;
use wharf_api::v1::exec;

use super::{signed, spec, status};
use crate::engine::ExecOutput;
use crate::model::{Exec, ExecState};

/// An exec.
pub(in crate::transport) fn exec(exec: &Exec) -> v1::Exec {
    v1::Exec {
        id: exec.id.to_string(),
        container_id: exec.container.to_string(),
        run: exec.run.0,
        labels: exec.labels.as_ref().clone(),
        spec: Some(spec::exec(&exec.spec)),
        state: state(exec.state).into(),
        pid: exec.pid.unwrap_or_default(),
        exit_status: exec.exit_status.as_deref().map(status::exit_status),
        failure: exec.failure.as_ref().map(status::failure),
        create_time: Some(exec.create_time.into()),
        start_time: exec.start_time.map(Into::into),
    }
}

/// Where an exec is. Until its process runs it has not started.
fn state(state: ExecState) -> exec::State {
    match state {
        ExecState::Created | ExecState::Starting => exec::State::Created,
        ExecState::Running => exec::State::Running,
        ExecState::Exited => exec::State::Exited,
        ExecState::Failed => exec::State::Failed,
    }
}

/// What an exec that was run to its end left behind.
pub(in crate::transport) fn output(output: ExecOutput) -> v1::ExecSyncResponse {
    v1::ExecSyncResponse {
        exec_id: output.exec.to_string(),
        stdout: output.stdout.data.into(),
        stderr: output.stderr.data.into(),
        stdout_dropped_bytes: signed(output.stdout.dropped),
        stderr_dropped_bytes: signed(output.stderr.dropped),
        exit_status: Some(status::exit_status(&output.exit)),
    }
}
