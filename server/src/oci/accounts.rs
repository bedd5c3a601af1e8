//! Users and groups of an image, looked up in its `/etc/passwd` and `/etc/group`.
//!
//! Knows only the text of the two files, so that an account is resolved before there is a root. The
//! rules are docker's (moby/sys/user, `GetExecUser`); lines that break the form are skipped rather than
//! read as root's.

use std::collections::BTreeSet;

use crate::model::failure::LaunchFailure;
use crate::model::image::AccountFiles;

/// Largest id that runtimes take. The kernel's are larger, but 2^32-1 means "unchanged" to it, and
/// sloppy conversions above 2^31 have made users root (CVE-2024-40635).
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// All groups, the main one included (a file may be closed to a group, CVE-2022-36109), sorted.
    pub additional_gids: Vec<u32>,
    /// Home directory; `/` if the files say none.
    pub home: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The account that `user` names: `name`, `name:group`, `uid`, `uid:gid` or any mixture; empty for root.
/// A uid that is not in the files has group 0 and no others. Without an explicit group, the
/// user's supplementary groups come from the group file. `supplemental` names further groups.
///
/// # Errors
/// [`LaunchFailure::UserNotFound`] for a name that is not in the files, or a number out of range.
pub fn resolve(
    user: &str,
    supplemental: &[String],
    files: &AccountFiles,
) -> Result<Account, LaunchFailure> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let known = find_user(user_part, &files.passwd);
    let uid = match (&known, user_part) {
        (Some(known), _) => known.uid,
        (None, "") => 0,
        (None, number) => parse_id(number).ok_or_else(|| not_found(user))?,
    };
    let gid = match (group_part, &known) {
        (Some(group), _) => find_group(group, &files.group).ok_or_else(|| not_found(user))?,
        (None, Some(known)) => known.gid,
        (None, None) => 0,
    };

    let mut gids = BTreeSet::from([gid]);
    if let (None, Some(known)) = (group_part, &known) {
        gids.extend(groups_of(known.name, &files.group));
    }
    for group in supplemental {
        gids.insert(find_group(group, &files.group).ok_or_else(|| not_found(group))?);
    }
    Ok(Account {
        uid,
        gid,
        additional_gids: gids.into_iter().collect(),
        home: home_of(known.as_ref()),
    })
}

fn not_found(user: &str) -> LaunchFailure {
    LaunchFailure::UserNotFound {
        user: user.to_owned(),
    }
}

fn home_of(user: Option<&User<'_>>) -> String {
    let home = user.map_or("", |user| user.home);
    let usable = home.starts_with('/') && !home.contains('\0');
    if usable { home } else { "/" }.to_owned()
}

/// By name or number; the first line that fits wins. Empty is root.
fn find_user<'a>(wanted: &str, passwd: &'a str) -> Option<User<'a>> {
    let id = if wanted.is_empty() {
        Some(0)
    } else {
        parse_id(wanted)
    };
    users(passwd).find(|user| user.name == wanted || Some(user.uid) == id)
}

/// By name or number; a number need not be in the file.
fn find_group(wanted: &str, group_file: &str) -> Option<u32> {
    let id = parse_id(wanted);
    groups(group_file)
        .find(|group| group.name == wanted || Some(group.gid) == id)
        .map(|group| group.gid)
        .or(id)
}

fn groups_of<'a>(user: &'a str, group_file: &'a str) -> impl Iterator<Item = u32> + 'a {
    groups(group_file)
        .filter(move |group| group.members.split(',').any(|member| member.trim() == user))
        .map(|group| group.gid)
}

/// passwd(5): `name:password:uid:gid:gecos:home:shell`.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let user = User {
            name: fields.next().filter(|name| !name.is_empty())?,
            uid: parse_id(fields.nth(1)?)?,
            gid: parse_id(fields.next()?)?,
            home: fields.nth(1).unwrap_or(""),
        };
        Some(user)
    })
}

/// group(5): `name:password:gid:member,member`.
fn groups(group_file: &str) -> impl Iterator<Item = Group<'_>> {
    group_file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let group = Group {
            name: fields.next().filter(|name| !name.is_empty())?,
            gid: parse_id(fields.nth(1)?)?,
            members: fields.next().unwrap_or(""),
        };
        Some(group)
    })
}

/// Digits only: no sign, no blank.
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = digits.then(|| text.parse().ok())??;
    (id <= MAX_ID).then_some(id)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files() -> AccountFiles {
        AccountFiles {
            passwd: "root:x:0:0:root:/root:/bin/sh\n\
                     # a comment\n\
                     broken\n\
                     nobody:x:many:0::/:\n\
                     app:x:1000:1001:An app:/home/app:/bin/sh\n\
                     bare:x:7:7\n"
                .to_owned(),
            group: "root:x:0:\nwheel:x:10:app, other\nstaff:x:50:app\napp:x:1001:\n".to_owned(),
        }
    }

    fn account(user: &str) -> Account {
        resolve(user, &[], &files()).expect(user)
    }

    #[test]
    fn nothing_is_root() {
        assert_eq!(
            account(""),
            Account {
                uid: 0,
                gid: 0,
                additional_gids: vec![0],
                home: "/root".to_owned()
            }
        );
        let bare = resolve("", &[], &AccountFiles::default()).expect("root");
        assert_eq!((bare.uid, bare.gid, bare.home.as_str()), (0, 0, "/"));
    }

    #[test]
    fn a_name_or_its_number_brings_its_groups_and_home() {
        for user in ["app", "1000"] {
            let account = account(user);
            assert_eq!((account.uid, account.gid), (1000, 1001));
            assert_eq!(account.additional_gids, [10, 50, 1001]);
            assert_eq!(account.home, "/home/app");
        }
        assert_eq!(account("bare").home, "/");
    }

    #[test]
    fn an_explicit_group_replaces_the_users_own() {
        for user in ["app:staff", "app:50", "1000:50"] {
            let account = account(user);
            assert_eq!((account.uid, account.gid), (1000, 50), "{user}");
            assert_eq!(account.additional_gids, [50]);
        }
        assert_eq!(account(":staff").gid, 50);
    }

    #[test]
    fn numbers_need_not_be_in_the_files() {
        let unknown = account("4242");
        assert_eq!((unknown.uid, unknown.gid), (4242, 0));
        assert_eq!(
            (unknown.additional_gids, unknown.home),
            (vec![0], "/".to_owned())
        );
        assert_eq!(account("4242:4343").gid, 4343);
        assert_eq!(account("2147483647").uid, 2_147_483_647);
    }

    #[test]
    fn supplemental_groups_are_added_by_name_or_number() {
        let supplemental = ["staff".to_owned(), "99".to_owned()];
        let account = resolve("4242", &supplemental, &files()).expect("found");
        assert_eq!(account.additional_gids, [0, 50, 99]);
    }

    #[test]
    fn what_is_in_no_file_is_not_found() {
        for user in [
            "ghost",
            "app:ghost",
            "nobody",
            "broken",
            "-1",
            "+1",
            "2147483648",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "a:b:c",
            " ",
        ] {
            let error = resolve(user, &[], &files()).expect_err(user);
            let expected = LaunchFailure::UserNotFound {
                user: user.to_owned(),
            };
            assert_eq!(error, expected);
        }
        let error = resolve("", &["ghosts".to_owned()], &files()).expect_err("no group");
        assert_eq!(
            error,
            LaunchFailure::UserNotFound {
                user: "ghosts".to_owned()
            }
        );
    }

    proptest! {
        #[test]
        fn any_text_is_resolved_or_refused(user: String, passwd: String, group: String) {
            let _ = resolve(&user, &[], &AccountFiles { passwd, group });
        }
    }
}
