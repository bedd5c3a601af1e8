//! One act on each of several targets: side by side, told in the order they were given.

use futures_util::{StreamExt as _, stream};
use wharf_client::{Client, Error};

use super::failure::Failure;
use super::session::Session;

/// How many are under way at once.
const AT_ONCE: usize = 16;

/// Acts on each target and prints the lines that it answers. A failure is told at once and does not
/// keep the others from their turn.
///
/// # Errors
/// [`Failure::Reported`] if any failed; the failure to connect or to write.
pub(crate) async fn each<F>(
    targets: Vec<String>,
    session: &mut Session,
    act: impl Fn(Client, String) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Vec<String>, Error>>,
{
    let client = session.connect().await?;
    let acts = targets
        .into_iter()
        .map(|target| act(client.clone(), target));
    let mut answers = stream::iter(acts).buffered(AT_ONCE);
    let mut failed = false;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(lines) => {
                for line in lines {
                    session.output.line(line)?;
                }
                session.output.flush()?;
            }
            Err(error) => {
                failed = true;
                session.output.error(&Failure::Call(error));
            }
        }
    }
    match failed {
        true => Err(Failure::Reported),
        false => Ok(()),
    }
}
