//! Updates of name, labels and limits.

use super::*;

pub(super) fn rename(name: &str) -> UpdateContainer {
    UpdateContainer {
        name: Some(name.to_owned()),
        ..UpdateContainer::default()
    }
}

fn limit(megabytes: u64) -> UpdateContainer {
    let from = Resources {
        memory_limit_bytes: Some(megabytes << 20),
        ..Resources::default()
    };
    UpdateContainer {
        resources: vec![ResourceChange {
            path: "resources.memory_limit_bytes".to_owned(),
            from,
        }],
        ..UpdateContainer::default()
    }
}

#[test]
fn a_rename_frees_the_old_name_and_takes_the_new_one() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.engine.update(cause("u"), "a", rename("b")).await.unwrap();
        assert!(up.is_gone("a"));
        assert_eq!(up.get("b").id, id);
        let other = up.create("a").await;
        let refused = up.engine.update(cause("u"), "b", rename("a")).await;
        assert_refused!(refused, Error::NameInUse { existing, .. } if existing == other.to_string());
        assert_eq!(up.get("b").id, id);
        assert_eq!(up.story(id).await[1..], ["updated name by u"]);
    });
}

#[test]
fn a_rename_that_fails_releases_the_name_it_reserved() {
    World::new().run(async |up| {
        up.create("a").await;
        up.control
            .fail_next(Operation::Update, unavailable(Applied::No));
        let update = UpdateContainer {
            name: Some("b".to_owned()),
            ..limit(64)
        };
        let failed = up.engine.update(cause("u"), "a", update).await;
        assert_unavailable(failed, Applied::No);
        assert_eq!(&*up.get("a").name, "a");
        up.create("b").await;
    });
}

#[test]
fn limits_change_at_once_and_for_the_next_start() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let after = up.engine.update(cause("u"), "a", limit(64)).await.unwrap();
        assert_eq!(after.spec.resources.memory_limit_bytes, Some(64 << 20));
        assert_eq!(up.control.limits(id), Some(after.spec.resources.clone()));
        assert_eq!(up.control.container(id).unwrap().spec, after.spec);
        up.exit("a", 0).await;
        let calls = up.control.calls(Operation::UpdateTask);
        up.engine.update(cause("u"), "a", limit(128)).await.unwrap();
        assert_eq!(up.control.calls(Operation::UpdateTask), calls);
        let stored = up.control.container(id).unwrap();
        assert_eq!(stored.spec.resources.memory_limit_bytes, Some(128 << 20));
    });
}

#[test]
fn labels_are_set_and_removed_and_an_empty_change_is_none() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        let set = UpdateContainer {
            set_labels: TextMap::from([("x".to_owned(), "1".to_owned())]),
            ..UpdateContainer::default()
        };
        let labelled = up
            .engine
            .update(cause("u1"), "a", set.clone())
            .await
            .unwrap();
        assert_eq!(labelled.labels.get("x").map(String::as_str), Some("1"));
        let same = up.engine.update(cause("u2"), "a", set).await.unwrap();
        assert_eq!(same.etag(), labelled.etag());
        let remove = UpdateContainer {
            remove_labels: vec!["x".to_owned(), "y".to_owned()],
            ..UpdateContainer::default()
        };
        let bare = up.engine.update(cause("u3"), "a", remove).await.unwrap();
        assert!(bare.labels.is_empty());
        assert_eq!(
            up.story(id).await[1..],
            ["updated labels.x by u1", "updated labels.x by u3"]
        );
    });
}

#[test]
fn labels_cannot_outgrow_their_limits_by_updates() {
    World::new().run(async |up| {
        up.create("a").await;
        let many = |prefix: &str, count: usize| UpdateContainer {
            set_labels: (0..count)
                .map(|n| (format!("{prefix}{n}"), String::new()))
                .collect(),
            ..UpdateContainer::default()
        };
        let half = limits::MAX_LABELS / 2;
        up.engine
            .update(cause("u"), "a", many("x", half))
            .await
            .unwrap();
        up.engine
            .update(cause("u"), "a", many("y", half))
            .await
            .unwrap();
        let refused = up.engine.update(cause("u"), "a", many("z", 1)).await;
        assert_refused!(refused, Error::InvalidField { .. });
    });
}

#[test]
fn a_limit_that_does_not_go_with_the_others_is_refused_and_changes_nothing() {
    World::new().run(async |up| {
        up.create("a").await;
        let swap = UpdateContainer {
            resources: vec![ResourceChange {
                path: "resources.swap_limit_bytes".to_owned(),
                from: Resources {
                    swap_limit_bytes: Some(1 << 20),
                    ..Resources::default()
                },
            }],
            ..UpdateContainer::default()
        };
        let before = up.get("a");
        let refused = up.engine.update(cause("u"), "a", swap.clone()).await;
        let field = "update.resources.swap_limit_bytes";
        assert_refused!(refused, Error::InvalidField { field: of, .. } if of == field);
        assert_eq!(up.get("a"), before);
        up.engine.update(cause("u"), "a", limit(64)).await.unwrap();
        up.engine.update(cause("u"), "a", swap).await.unwrap();
    });
}

#[test]
fn a_create_with_a_profile_that_cannot_be_read_makes_nothing() {
    World::new().run(async |up| {
        let mut create = request("a");
        create.spec.security.seccomp = Seccomp::Json {
            json: "[]".to_owned(),
        };
        let validated = up.engine.validate(create.clone());
        assert_refused!(validated, Error::Backend(BackendError::Launch(_)));
        let created = up.engine.create(call("c"), create).await;
        assert_refused!(created, Error::Backend(BackendError::Launch(_)));
        assert!(up.is_gone("a"));
        assert_eq!(up.control.calls(Operation::Create), 0);
    });
}

#[test]
fn an_update_of_a_process_that_has_just_ended_is_stored() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let hold = up.control.hold_next(Operation::UpdateTask);
        let engine = up.engine.clone();
        let updating = up
            .go(async move { engine.update(cause("u"), "a", limit(64)).await })
            .await;
        hold.reached().await;
        up.exit("a", 0).await;
        hold.release();
        let updated = updating.await.unwrap().unwrap();
        assert_eq!(updated.spec.resources.memory_limit_bytes, Some(64 << 20));
        up.quiet().await;
        assert_eq!(
            up.story(id).await[2..],
            [
                "updated spec.resources.memory_limit_bytes by u",
                "exited 1 with 0"
            ]
        );
    });
}
