//! Puts a process together from what was asked for, what its image says, and the image's accounts.
//!
//! The rules are docker's, because that is what images are made for; each is said at its function.

use std::collections::BTreeMap;

use thiserror::Error;

use super::accounts;
use crate::model::failure::LaunchFailure;
use crate::model::image::{AccountFiles, ImageConfig};
use crate::model::spec::{Process, ProcessSpec};

/// Where programs are looked for if neither request nor image says it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why there is no process to start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProcessError {
    /// Neither request nor image names a program: the request's `spec.process.args` must.
    #[error("neither the request nor the image says what to run")]
    NoCommand,
    /// Its user or a group is not in the image.
    #[error(transparent)]
    Account(#[from] LaunchFailure),
}

/// The process that `spec` asks for, in an image with `config` and the accounts in `files`.
///
/// # Errors
/// [`ProcessError`].
pub fn process(
    spec: &ProcessSpec,
    config: &ImageConfig,
    files: &AccountFiles,
) -> Result<Process, ProcessError> {
    let args = command(spec, config);
    if args.is_empty() {
        return Err(ProcessError::NoCommand);
    }
    let user = spec.user.as_deref().unwrap_or(&config.user);
    let account = accounts::resolve(user, &spec.supplemental_groups, files)?;
    Ok(Process {
        args,
        env: environment(spec, config, &account.home),
        working_dir: working_dir(spec, config),
        uid: account.uid,
        gid: account.gid,
        additional_gids: account.additional_gids,
    })
}

/// The process that `spec` asks for, in a container whose main process is `main` and whose accounts are in
/// `files`. What is not asked for is as in `main`; without a user of its own it has the same groups, too.
///
/// # Errors
/// [`ProcessError`].
pub fn exec(
    spec: &ProcessSpec,
    main: &Process,
    files: &AccountFiles,
) -> Result<Process, ProcessError> {
    if spec.args.is_empty() {
        return Err(ProcessError::NoCommand);
    }
    let mut result = Process {
        args: spec.args.clone(),
        env: over(&main.env, spec),
        working_dir: spec
            .working_dir
            .clone()
            .unwrap_or_else(|| main.working_dir.clone()),
        ..main.clone()
    };
    if spec.user.is_none() && spec.supplemental_groups.is_empty() {
        return Ok(result);
    }
    let own = format!("{}:{}", main.uid, main.gid);
    let user = spec.user.as_deref().unwrap_or(&own);
    let account = accounts::resolve(user, &spec.supplemental_groups, files)?;
    result.uid = account.uid;
    result.gid = account.gid;
    result.additional_gids = account.additional_gids;
    if spec.user.is_some() && !spec.env.contains_key("HOME") {
        result.env.retain(|entry| !entry.starts_with("HOME="));
        result.env.push(format!("HOME={}", account.home));
        result.env.sort_unstable();
    }
    Ok(result)
}

/// The container's environment with the request's entries over it; sorted by key.
fn over(main: &[String], spec: &ProcessSpec) -> Vec<String> {
    let of_main = main.iter().filter_map(|entry| entry.split_once('='));
    let asked = spec.env.iter().map(|(key, value)| (&**key, &**value));
    let merged: BTreeMap<&str, &str> = of_main.chain(asked).collect();
    merged
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// An entrypoint replaces the image's entrypoint and cmd; args alone replace its cmd.
fn command(spec: &ProcessSpec, config: &ImageConfig) -> Vec<String> {
    let (program, arguments) = match (spec.entrypoint.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.entrypoint, &spec.args),
        (true, false) => (&config.entrypoint, &spec.args),
        (true, true) => (&config.entrypoint, &config.cmd),
    };
    program.iter().chain(arguments).cloned().collect()
}

/// The request's entries over the image's; sorted by key. Of the image's, those without a key are dropped.
fn environment(spec: &ProcessSpec, config: &ImageConfig, home: &str) -> Vec<String> {
    let defaults = [("HOME", home), ("PATH", DEFAULT_PATH)];
    let image = config.env.iter().filter_map(|entry| entry.split_once('='));
    let image = image.filter(|(key, _)| !key.is_empty());
    let asked = spec.env.iter().map(|(key, value)| (&**key, &**value));

    let merged: BTreeMap<&str, &str> = defaults.into_iter().chain(image).chain(asked).collect();
    merged
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// The image's may be relative to the root.
fn working_dir(spec: &ProcessSpec, config: &ImageConfig) -> String {
    let asked = spec.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = asked.unwrap_or(&config.working_dir);
    if dir.starts_with('/') {
        dir.to_owned()
    } else {
        format!("/{dir}")
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: strings(&["/entry", "-e"]),
            cmd: strings(&["serve"]),
            env: strings(&["PATH=/image", "A=1", "B=2=3", "broken", "=x"]),
            working_dir: "srv".to_owned(),
            user: "app".to_owned(),
            ..ImageConfig::default()
        }
    }

    fn files() -> AccountFiles {
        AccountFiles {
            passwd: "app:x:1000:1001::/home/app:/bin/sh\n".to_owned(),
            group: String::new(),
        }
    }

    fn made(spec: &ProcessSpec) -> Process {
        process(spec, &image(), &files()).expect("a process")
    }

    fn args(entrypoint: &[&str], args: &[&str]) -> Vec<String> {
        let spec = ProcessSpec {
            entrypoint: strings(entrypoint),
            args: strings(args),
            ..ProcessSpec::default()
        };
        made(&spec).args
    }

    #[test]
    fn entrypoint_and_arguments_replace_the_images_as_docker_does() {
        assert_eq!(args(&[], &[]), ["/entry", "-e", "serve"]);
        assert_eq!(args(&[], &["check"]), ["/entry", "-e", "check"]);
        assert_eq!(args(&["/bin/sh"], &[]), ["/bin/sh"]);
        assert_eq!(args(&["/bin/sh"], &["-c", "id"]), ["/bin/sh", "-c", "id"]);
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        let empty = ProcessSpec::default();
        let error = process(&empty, &ImageConfig::default(), &files());
        assert_eq!(error, Err(ProcessError::NoCommand));
    }

    #[test]
    fn the_environment_is_the_images_under_the_requests() {
        let mut spec = ProcessSpec::default();
        assert_eq!(
            made(&spec).env,
            ["A=1", "B=2=3", "HOME=/home/app", "PATH=/image"]
        );
        spec.env.insert("A".to_owned(), "9".to_owned());
        spec.env.insert("HOME".to_owned(), "/h".to_owned());
        assert_eq!(made(&spec).env, ["A=9", "B=2=3", "HOME=/h", "PATH=/image"]);
    }

    #[test]
    fn there_is_always_a_path_and_a_home() {
        let spec = ProcessSpec {
            args: strings(&["true"]),
            ..ProcessSpec::default()
        };
        let process = process(&spec, &ImageConfig::default(), &AccountFiles::default());
        let env = process.expect("a process").env;
        assert_eq!(env, ["HOME=/".to_owned(), format!("PATH={DEFAULT_PATH}")]);
    }

    #[test]
    fn the_working_directory_is_absolute() {
        let mut spec = ProcessSpec::default();
        assert_eq!(made(&spec).working_dir, "/srv");
        spec.working_dir = Some("/tmp".to_owned());
        assert_eq!(made(&spec).working_dir, "/tmp");
        let bare = ImageConfig {
            working_dir: String::new(),
            ..image()
        };
        let process = process(&ProcessSpec::default(), &bare, &files());
        assert_eq!(process.expect("a process").working_dir, "/");
    }

    #[test]
    fn the_user_is_the_requests_or_the_images() {
        let mut spec = ProcessSpec::default();
        assert_eq!(made(&spec).uid, 1000);
        spec.user = Some("0".to_owned());
        assert_eq!(made(&spec).uid, 0);
        spec.user = Some("ghost".to_owned());
        let error = process(&spec, &image(), &files()).expect_err("no such user");
        assert!(matches!(
            error,
            ProcessError::Account(LaunchFailure::UserNotFound { .. })
        ));
    }
}
