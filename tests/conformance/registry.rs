//! Images from real registries and back: whole and exact or not at all, whatever stands between.

mod access;
mod damage;
mod events;
mod full_disk;
mod kills;
mod names;
mod odd_images;
mod outages;
mod policies;
mod progress;
mod resuming;
mod sharing;
mod trees;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use wharf_api::ErrorReason::{DigestMismatch, ImageInvalid};
use wharf_api::v1::Image;

use crate::harness::image::{Recipe, Tar, digest};
use crate::harness::registry::{Access, At, Fault, FaultProxy, Manifest, Pulled, Registry};
use crate::harness::{Client, Refusal, World, spec};

/// A refused pull takes no longer than every retry there is.
const BOUND: Duration = Duration::from_secs(120);
/// How long a transfer may be slower than 1 KiB/s in scenarios that have one stall.
const STALL_SECONDS: &str = "3";

/// Nothing of another image is here yet.
async fn up(world: &mut World) -> Client {
    world.start_backend().await;
    world.wharfd.start().await
}

/// Busybox and layers of noise, which cannot be compressed, so that sizes are known.
struct Noisy {
    recipe: Recipe,
    /// What is run to look at every byte of it.
    look: &'static str,
    /// What that says.
    sums: String,
}

impl Noisy {
    fn of(seed: u64, sizes: &[usize]) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut recipe = Recipe::busybox("");
        let mut sums = String::new();
        for (number, size) in sizes.iter().enumerate() {
            let mut noise = vec![0; *size];
            random.fill_bytes(&mut noise);
            let mut layer = Tar::new();
            layer.directory("noise", 0o755);
            layer.file(&format!("noise/{number}"), 0o644, &noise);
            recipe.layers.push(layer.finish());
            let sum = digest(&Sha256::digest(&noise)).replace("sha256:", "");
            sums.push_str(&format!("{sum}  /noise/{number}\n"));
        }
        Self {
            recipe,
            look: "busybox sha256sum /noise/*",
            sums,
        }
    }

    /// With layers of small files on top: to unpack them takes longer than to download them.
    fn and_small_files(mut self, layers: usize, files: usize) -> Self {
        let mut sum = Sha256::new();
        for layer in 0..layers {
            let mut tar = Tar::new();
            tar.directory("small", 0o755);
            tar.directory(&format!("small/{layer}"), 0o755);
            for file in 0..files {
                let path = format!("small/{layer}/{file:04}");
                tar.file(&path, 0o644, path.as_bytes());
                sum.update(&path);
            }
            self.recipe.layers.push(tar.finish());
        }
        let sum = digest(&sum.finalize()).replace("sha256:", "");
        self.sums.push_str(&format!("{sum}  -\n"));
        self.look = "busybox sha256sum /noise/*; cat /small/*/* | busybox sha256sum";
        self
    }

    /// Runs a container of what was pulled, and looks at every byte.
    async fn is_right(&self, client: &Client, image: &str) {
        let command = ["sh", "-c", self.look];
        let whole = client.run_whole(spec::running_of(image, &command)).await;
        let whole = whole.unwrap();
        assert_eq!((whole.out(), whole.exit.code), (&*self.sums, 0), "{image}");
        client.delete_every_container().await;
    }
}

/// A registry with one noisy image behind a proxy, which is where the server looks for it.
struct Behind {
    registry: Registry,
    proxy: FaultProxy,
    noisy: Noisy,
    pushed: Manifest,
    image: String,
}

impl Behind {
    async fn start(world: &World, access: Access, sizes: &[usize]) -> Self {
        Self::with(world, access, Noisy::of(1, sizes)).await
    }

    async fn with(world: &World, access: Access, noisy: Noisy) -> Self {
        let registry = Registry::start(access).await;
        let proxy = FaultProxy::start(registry.address()).await;
        proxy.known_to(&world.wharfd);
        let pushed = registry.push(&noisy.recipe, "app:1").await;
        let image = proxy.reference("app:1");
        Self {
            registry,
            proxy,
            noisy,
            pushed,
            image,
        }
    }

    /// The digest of the last layer.
    fn last_layer(&self) -> String {
        self.pushed.layers().pop().unwrap().0
    }

    /// A pull is refused for this reason while that happens. Afterwards nothing of it is there but what is right so
    /// far, and all is well.
    async fn refuses(
        &self,
        world: &World,
        client: &Client,
        at: At,
        fault: Fault,
        expected: &str,
    ) -> Refusal {
        // A body may be large.
        let told = format!("{fault:.80?} at {at:?}");
        let before = world.kept().await;
        self.proxy.fail(at, fault);
        let refusal = client.with_deadline(BOUND).pull(&self.image).await;
        let refusal = refusal.expect_err(&told);
        let what = format!("{told}: {refusal}");
        assert_eq!(reason(&refusal), expected, "{what}");
        assert_eq!(client.every_image().await, [], "{what}");
        match refusal.reason() {
            DigestMismatch | ImageInvalid => world.nothing_is_left(&before, &what).await,
            // What has come is not to blame.
            _ => world.only_downloads_are_left(&before, &what).await,
        }
        self.is_well(client).await;
        world.nothing_is_left(&before, &what).await;
        refusal
    }

    /// Pulls without any fault, runs it, and removes it.
    async fn is_well(&self, client: &Client) {
        self.proxy.heal();
        let pulled = client.pull(&self.image).await.unwrap();
        self.has_come(client, &pulled).await;
        client.remove_image(&self.image).await.unwrap();
        assert_eq!(client.every_image().await, []);
    }

    /// It is what the registry has, in every byte.
    async fn has_come(&self, client: &Client, pulled: &Pulled) {
        self.is_what_was_pulled(pulled);
        self.noisy.is_right(client, &self.image).await;
    }

    fn is_what_was_pulled(&self, pulled: &Pulled) {
        assert_eq!(pulled.resolved.digest, self.pushed.digest);
        is_the_image(&pulled.image, &self.pushed, &self.image);
    }
}

/// For scenarios in which something stalls.
fn with_short_stalls(world: &mut World) {
    world.configure(|options| {
        options.arguments = ["--registry-stall-timeout", STALL_SECONDS]
            .map(str::to_owned)
            .to_vec();
    });
}

/// The image is exactly what the registry has, under one name.
fn is_the_image(image: &Image, pushed: &Manifest, reference: &str) {
    assert_eq!(image.id, pushed.config());
    assert_eq!(image.references, [reference]);
    let target = image.target.as_ref().expect("a target");
    assert_eq!(
        (&*target.digest, &*target.media_type, target.size_bytes),
        (&*pushed.digest, pushed.media_type(), pushed.size)
    );
}

/// The name of a refusal's reason.
fn reason(refusal: &Refusal) -> &'static str {
    refusal.reason().as_str_name()
}
