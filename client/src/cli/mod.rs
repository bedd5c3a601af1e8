//! The command line: what can be said, and how it is carried out.
//!
//! One module per command turns flags into requests and answers into text. Only [`output`] writes;
//! only [`failure`] knows exit codes.

mod attach;
mod attached;
mod container_flags;
mod cp;
mod create;
mod df;
mod each;
mod events;
mod exec;
mod failure;
mod filters;
mod human;
mod image_names;
mod images;
mod info;
mod inspect;
mod json;
mod kill;
mod load;
mod log_lines;
mod login;
mod logs;
mod mounts;
mod output;
mod pause;
mod progress;
mod prune;
mod ps;
mod pull;
mod push;
mod registry_auth;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod security;
mod session;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod trace;
mod update;
mod values;
mod version;
mod wait;
mod wiring_flags;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::{ExitStyle, Failure, USAGE};
use output::Output;
use session::{Globals, Session};

/// Run and manage containers through wharfd.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Run>),
    Create(Box<create::Create>),
    Exec(Box<exec::Exec>),
    Attach(attach::Attach),
    Logs(logs::Logs),
    Cp(cp::Cp),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Kill(kill::Kill),
    Rm(rm::Rm),
    Ps(ps::Ps),
    Inspect(inspect::Inspect),
    Wait(wait::Wait),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    Top(top::Top),
    Stats(stats::Stats),
    Events(events::Events),
    Trace(trace::Trace),
    Update(update::Update),
    Rename(update::Rename),
    Prune(prune::Prune),
    Images(images::Images),
    Pull(pull::Pull),
    Push(push::Push),
    Tag(tag::Tag),
    Rmi(rmi::Rmi),
    Save(save::Save),
    #[command(visible_alias = "import")]
    Load(load::Load),
    Login(login::Login),
    Logout(login::Logout),
    Df(df::Df),
    Version(version::Version),
    Info(info::Info),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let mut output = Output::standard();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &mut output),
    };
    let style = cli.command.exit_style();
    let result = execute(cli, output);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            Output::standard().error(&failure);
            ExitCode::from(failure.exit_code(style))
        }
    }
}

/// One thread is enough for one command, and quicker to start. Answers with the exit code.
fn execute(cli: Cli, output: Output) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let result = runtime.block_on(async {
        let mut session = Session::new(cli.globals, output);
        cli.command.execute(&mut session).await?;
        session.output.flush()?;
        Ok(session.exit_code)
    });
    // A read of standard input that is still under way must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Help and version are answers; anything else is one line and docker's exit code for bad usage.
fn refuse(error: &clap::Error, output: &mut Output) -> ExitCode {
    let text = error.render().to_string();
    let answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if !answer {
        output.error(&failure::usage_line(&text));
        return ExitCode::from(USAGE);
    }
    match output.text(&text).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.exit_code(ExitStyle::Plain)),
    }
}

impl Command {
    fn exit_style(&self) -> ExitStyle {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "those that answer with a process's exit code are the exceptions"
        )]
        match self {
            Self::Run(_) => ExitStyle::Run,
            Self::Exec(_) | Self::Attach(_) => ExitStyle::Exec,
            _ => ExitStyle::Plain,
        }
    }

    async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            Self::Run(command) => command.execute(session).await,
            Self::Create(command) => command.execute(session).await,
            Self::Exec(command) => command.execute(session).await,
            Self::Attach(command) => command.execute(session).await,
            Self::Logs(command) => command.execute(session).await,
            Self::Cp(command) => command.execute(session).await,
            Self::Start(command) => command.execute(session).await,
            Self::Stop(command) => command.execute(session).await,
            Self::Restart(command) => command.execute(session).await,
            Self::Kill(command) => command.execute(session).await,
            Self::Rm(command) => command.execute(session).await,
            Self::Ps(command) => command.execute(session).await,
            Self::Inspect(command) => command.execute(session).await,
            Self::Wait(command) => command.execute(session).await,
            Self::Pause(command) => command.execute(session).await,
            Self::Unpause(command) => command.execute(session).await,
            Self::Top(command) => command.execute(session).await,
            Self::Stats(command) => command.execute(session).await,
            Self::Events(command) => command.execute(session).await,
            Self::Trace(command) => command.execute(session).await,
            Self::Update(command) => command.execute(session).await,
            Self::Rename(command) => command.execute(session).await,
            Self::Prune(command) => command.execute(session).await,
            Self::Images(command) => command.execute(session).await,
            Self::Pull(command) => command.execute(session).await,
            Self::Push(command) => command.execute(session).await,
            Self::Tag(command) => command.execute(session).await,
            Self::Rmi(command) => command.execute(session).await,
            Self::Save(command) => command.execute(session).await,
            Self::Load(command) => command.execute(session).await,
            Self::Login(command) => command.execute(session).await,
            Self::Logout(command) => command.execute(session).await,
            Self::Df(command) => command.execute(session).await,
            Self::Version(command) => command.execute(session).await,
            Self::Info(command) => command.execute(session).await,
        }
    }
}
