//! `wharf prune`.

use std::io::BufRead as _;

use clap::Args;
use wharf_client::v1::{
    ImageFilter, PruneContainersRequest, PruneImagesRequest, PruneImagesResponse,
};

use super::failure::Failure;
use super::filters::{self, Pair};
use super::human;
use super::json::Json;
use super::output::{Format, Output};
use super::session::Session;

/// Delete all containers that have exited or failed, or images that nothing uses
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Images without a reference, in place of containers
    #[arg(long)]
    images: bool,
    /// Also images that have references, if no container uses them
    #[arg(short, long, requires = "images")]
    all: bool,
    /// Ask no question
    #[arg(short, long)]
    force: bool,
    /// Show what would be deleted, and delete nothing. With --all, what images with references share with images
    /// without is in no count
    #[arg(long)]
    dry_run: bool,
    /// Only those: label=KEY[=VALUE], name=NAME, status=exited|failed, ancestor=IMAGE, id=PREFIX; of images:
    /// label=KEY=VALUE, reference=REFERENCE, dangling=BOOL
    #[arg(long, value_name = "KEY=VALUE", value_parser = filters::pair)]
    filter: Vec<Pair>,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Prune {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let reclaimed = match self.images {
            true => self.prune_images(session).await?,
            false => self.prune_containers(session).await?,
        };
        match self.format {
            Format::Json => Ok(()),
            Format::Table => session.output.line(total(reclaimed)),
        }
    }

    async fn prune_containers(&self, session: &mut Session) -> Result<i64, Failure> {
        let request = PruneContainersRequest {
            filter: filters::containers(&self.filter)?,
            dry_run: self.dry_run,
        };
        self.confirm("containers that have exited or failed", session)?;
        let mut deleted = session.connect().await?.stream(request).await?;
        let mut reclaimed: i64 = 0;
        while let Some(container) = deleted.next().await? {
            reclaimed = reclaimed.saturating_add(container.reclaimed_bytes);
            match self.format {
                Format::Json => session.output.json(&Json::of(&container)?)?,
                Format::Table => session.output.line(&container.container_id)?,
            }
            session.output.flush()?;
        }
        Ok(reclaimed)
    }

    async fn prune_images(&self, session: &mut Session) -> Result<i64, Failure> {
        let requests = self.image_requests()?;
        self.confirm(images_of(&requests), session)?;
        let client = session.connect().await?;
        let mut reclaimed: i64 = 0;
        for request in requests {
            let mut deleted = client.stream(request).await?;
            while let Some(image) = deleted.next().await? {
                reclaimed = reclaimed.saturating_add(image.reclaimed_bytes);
                match self.format {
                    Format::Json => session.output.json(&Json::of(&image)?)?,
                    Format::Table => session.output.line(image_line(&image))?,
                }
                session.output.flush()?;
            }
        }
        Ok(reclaimed)
    }

    /// The API prunes images with references and those without by different calls.
    pub(crate) fn image_requests(&self) -> Result<Vec<PruneImagesRequest>, Failure> {
        let filter = filters::images(&self.filter)?.unwrap_or_default();
        let request = |dangling| PruneImagesRequest {
            filter: Some(ImageFilter {
                dangling,
                ..filter.clone()
            }),
            dry_run: self.dry_run,
        };
        match (self.all, filter.dangling) {
            (false, asked) => Ok(vec![request(asked)]),
            (true, None) => Ok(vec![request(Some(false)), request(Some(true))]),
            (true, Some(_)) => Err(Failure::Usage(
                "--all is about images with and without references; dangling= is about some"
                    .to_owned(),
            )),
        }
    }

    /// Anything but a yes, an end of input too, is a no.
    fn confirm(&self, what: &str, session: &mut Session) -> Result<(), Failure> {
        if self.force || self.dry_run {
            return Ok(());
        }
        ask(&self.question(what), &mut session.output)
    }

    pub(crate) fn question(&self, what: &str) -> String {
        let filters: Vec<_> = self.filter.iter().map(Pair::to_string).collect();
        match filters.as_slice() {
            [] => format!("This deletes all {what}."),
            filters => format!(
                "This deletes all {what}, of those with {}.",
                filters.join(", ")
            ),
        }
    }
}

/// What the requests ask for.
pub(crate) fn images_of(requests: &[PruneImagesRequest]) -> &'static str {
    let dangling = |request: &PruneImagesRequest| request.filter.as_ref()?.dangling;
    match requests {
        [one] if dangling(one) == Some(false) => "images with references that no container uses",
        [_] => "images without a reference that no container uses",
        _ => "images that no container uses",
    }
}

/// An id, and the references that went with it.
fn image_line(image: &PruneImagesResponse) -> String {
    let references = image.references.iter().map(|it| human::familiar(it));
    let words: Vec<_> = [image.image_id.as_str()]
        .into_iter()
        .chain(references)
        .collect();
    words.join(" ")
}

fn total(reclaimed: i64) -> String {
    format!("Total reclaimed space: {}", human::size(reclaimed))
}

fn ask(question: &str, output: &mut Output) -> Result<(), Failure> {
    output.question(&format!("{question} Go on? [y/N]"))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::NotConfirmed),
    }
}
