//! `ImageService`.

use tonic::Code;
use wharf_api::v1;

use super::{Api, refusal};

#[tokio::test]
async fn images_are_found_by_reference_and_id() {
    let api = Api::new().await;
    let get = |image: &str| v1::GetImageRequest {
        image: image.to_owned(),
    };
    let mut client = api.images();
    let answer = client.get_image(get("app1")).await.unwrap().into_inner();
    let image = answer.image.unwrap();
    assert_eq!(image.references, ["docker.io/library/app1:latest"]);
    let by_id = client.get_image(get(&image.id)).await.unwrap().into_inner();
    assert_eq!(by_id.image.unwrap(), image);
    let missing = refusal(client.get_image(get("nope")).await);
    assert_eq!(missing, (Code::NotFound, "IMAGE_NOT_FOUND".to_owned()));
    api.close().await;
}

#[tokio::test]
async fn pages_hold_every_image_once() {
    let api = Api::new().await;
    api.create(|_| ()).await;
    let mut request = v1::ListImagesRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = api
        .images()
        .list_images(request.clone())
        .await
        .unwrap()
        .into_inner();
    request.page_token = first.next_page_token;
    let second = api
        .images()
        .list_images(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.images[0].containers, 1);
    assert_eq!(first.cursor, second.cursor);
    assert_eq!(second.next_page_token, "");
    let names: Vec<_> = [first.images, second.images]
        .concat()
        .into_iter()
        .map(|image| image.references.concat())
        .collect();
    let all = [0, 1, 2].map(|n| format!("docker.io/library/app{n}:latest"));
    assert_eq!(names, all);
    api.close().await;
}

#[tokio::test]
async fn an_image_is_tagged_and_deleted() {
    let api = Api::new().await;
    let mut client = api.images();
    let tag = |reference: &str| v1::TagImageRequest {
        image: "app0".to_owned(),
        reference: reference.to_owned(),
    };
    let tagged = client.tag_image(tag("mine:1")).await.unwrap().into_inner();
    let references = tagged.image.unwrap().references;
    assert!(references.contains(&"docker.io/library/mine:1".to_owned()));
    let taken = refusal(client.tag_image(tag("app1")).await);
    assert_eq!(taken.1, "IMAGE_REFERENCE_IN_USE");

    let delete = |image: &str, allow_missing| v1::DeleteImageRequest {
        image: image.to_owned(),
        allow_missing,
        force: false,
    };
    let deleted = client
        .delete_image(delete("mine:1", false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(deleted.untagged, ["docker.io/library/mine:1"]);
    let again = client
        .delete_image(delete("mine:1", true))
        .await
        .unwrap()
        .into_inner();
    assert!(again.untagged.is_empty() && again.deleted.is_empty());
    assert_eq!(
        refusal(client.delete_image(delete("mine:1", false)).await).0,
        Code::NotFound
    );
    api.close().await;
}
