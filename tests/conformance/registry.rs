//! Images from real registries and back: whole and exact or not at all, whatever stands between.

mod access;
mod damage;
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

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use wharf_api::v1::Image;

use crate::harness::image::{Recipe, Tar, digest};
use crate::harness::registry::{Access, FaultProxy, Manifest, Pulled, Registry};
use crate::harness::{Client, Refusal, World, spec};

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
    /// What `sha256sum` says of the noise inside.
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
        Self { recipe, sums }
    }

    /// Runs a container of what was pulled, and looks at every byte.
    async fn is_right(&self, client: &Client, image: &str) {
        let command = ["sh", "-c", "busybox sha256sum /noise/*"];
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
        let registry = Registry::start(access).await;
        let proxy = FaultProxy::start(registry.address()).await;
        proxy.known_to(&world.wharfd);
        let noisy = Noisy::of(1, sizes);
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

    /// Pulls without any fault, runs it, and removes it.
    async fn is_well(&self, client: &Client) {
        self.proxy.heal();
        let pulled = client.pull(&self.image).await.unwrap();
        self.is_what_was_pulled(&pulled);
        self.noisy.is_right(client, &self.image).await;
        client.remove_image(&self.image).await.unwrap();
        assert_eq!(client.every_image().await, []);
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
