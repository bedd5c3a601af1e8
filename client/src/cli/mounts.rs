//! `-v`, `--mount` and `--tmpfs`.

use std::path::{Component, Path, PathBuf};

use wharf_client::v1::bind_mount::Propagation;
use wharf_client::v1::mount::Source;
use wharf_client::v1::{BindMount, ImageMount, Mount, TmpfsMount};

use super::values;

/// `SRC:DST[:OPTION,…]`. As in docker, a missing SRC is created.
pub(crate) fn volume(text: &str) -> Result<Mount, String> {
    let mut parts = text.split(':');
    let (source, target) = (parts.next(), parts.next());
    let options = parts.next().unwrap_or_default();
    let (Some(source), Some(target), None) = (source, target, parts.next()) else {
        return Err(format!("{text:?} is not SRC:DST[:ro]"));
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "{source:?} is not a path: named volumes are not supported"
        ));
    }
    let mut bind = BindMount {
        path: absolute(source)?,
        create: true,
        ..Default::default()
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => bind.set_propagation(propagation(other)?),
        }
    }
    Ok(Mount {
        target: target.to_owned(),
        read_only,
        source: Some(Source::Bind(bind)),
    })
}

/// `DST[:size=64m,mode=1777,ro]`.
pub(crate) fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut memory = TmpfsMount::default();
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", size) => memory.size_bytes = values::bytes(size)?,
            ("mode", mode) => memory.mode = Some(permissions(mode)?),
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            _ => return Err(format!("{option:?} is not one of size=, mode=, ro, rw")),
        }
    }
    Ok(Mount {
        target: target.to_owned(),
        read_only,
        source: Some(Source::Tmpfs(memory)),
    })
}

/// What `--mount` says, key by key.
#[derive(Default)]
struct Keys<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    propagation: Option<Propagation>,
    size_bytes: Option<i64>,
    mode: Option<u32>,
    sub_path: Option<&'a str>,
    /// The types that the keys given so far belong to.
    kinds: Vec<&'static str>,
}

/// `type=bind|tmpfs|image,source=SRC,target=DST[,readonly]…`, with docker's other names of the keys.
pub(crate) fn mount(text: &str) -> Result<Mount, String> {
    let mut keys = Keys::default();
    for field in text.split(',') {
        keys.set(field)?;
    }
    let target = keys.target.ok_or("target= is missing")?.to_owned();
    let read_only = keys.read_only;
    Ok(Mount {
        target,
        read_only,
        source: Some(keys.into_source()?),
    })
}

impl<'a> Keys<'a> {
    fn set(&mut self, field: &'a str) -> Result<(), String> {
        match field.split_once('=').unwrap_or((field, "")) {
            ("type", kind) => self.kind = Some(kind),
            ("source" | "src", source) => self.source = Some(source),
            ("target" | "destination" | "dst", target) => self.target = Some(target),
            ("readonly" | "ro", "" | "true" | "1") => self.read_only = true,
            ("readonly" | "ro", "false" | "0") => self.read_only = false,
            ("bind-propagation", mode) => {
                self.kinds.push("bind");
                self.propagation = Some(propagation(mode)?);
            }
            ("tmpfs-size", size) => {
                self.kinds.push("tmpfs");
                self.size_bytes = Some(values::bytes(size)?);
            }
            ("tmpfs-mode", mode) => {
                self.kinds.push("tmpfs");
                self.mode = Some(permissions(mode)?);
            }
            ("image-subpath", path) => {
                self.kinds.push("image");
                self.sub_path = Some(path);
            }
            _ => return Err(format!("{field:?} is not a key of a mount")),
        }
        Ok(())
    }

    /// The source of the type that is named; keys of another type are an error, not ignored.
    fn into_source(self) -> Result<Source, String> {
        let kind = self.kind.unwrap_or_default();
        if let Some(other) = self.kinds.iter().find(|&&other| other != kind) {
            return Err(format!("a key of type={other} does not fit type={kind}"));
        }
        match kind {
            "bind" => self.bind(),
            "image" => self.image(),
            "tmpfs" if self.source.is_none() => Ok(Source::Tmpfs(TmpfsMount {
                size_bytes: self.size_bytes.unwrap_or_default(),
                mode: self.mode,
            })),
            "tmpfs" => Err("type=tmpfs has no source".to_owned()),
            _ => Err("type= must be bind, tmpfs or image".to_owned()),
        }
    }

    fn bind(self) -> Result<Source, String> {
        let mut bind = BindMount {
            path: absolute(self.source.ok_or("source= is missing")?)?,
            ..Default::default()
        };
        if let Some(propagation) = self.propagation {
            bind.set_propagation(propagation);
        }
        Ok(Source::Bind(bind))
    }

    fn image(self) -> Result<Source, String> {
        Ok(Source::Image(ImageMount {
            image: self.source.ok_or("source= is missing")?.to_owned(),
            sub_path: self.sub_path.unwrap_or_default().to_owned(),
        }))
    }
}

fn propagation(text: &str) -> Result<Propagation, String> {
    match text {
        "rprivate" => Ok(Propagation::Rprivate),
        "rslave" => Ok(Propagation::Rslave),
        "rshared" => Ok(Propagation::Rshared),
        _ => Err(format!(
            "{text:?} is not one of ro, rw, rprivate, rslave, rshared"
        )),
    }
}

fn permissions(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| format!("{text:?} is not an octal mode, such as 1777"))
}

/// The path as the server can use it: absolute, without `.` and `..`. Symlinks are the server's.
fn absolute(path: &str) -> Result<String, String> {
    let path = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                plain.push(component);
            }
        }
    }
    let text = plain.into_os_string().into_string();
    text.map_err(|path| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn bind(mount: &Mount) -> &BindMount {
        match &mount.source {
            Some(Source::Bind(bind)) => bind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_is_a_bind_mount_whose_source_is_created() {
        let mount = volume("/srv/../data:/in:ro,rslave").unwrap();
        assert_eq!((&mount.target[..], mount.read_only), ("/in", true));
        let bind = bind(&mount);
        assert_eq!((&bind.path[..], bind.create), ("/data", true));
        assert_eq!(bind.propagation(), Propagation::Rslave);
    }

    #[test]
    fn a_relative_source_starts_at_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let mount = volume("./x:/x").unwrap();
        assert_eq!(bind(&mount).path, here.join("x").to_str().unwrap());
    }

    #[test]
    fn named_volumes_and_unknown_options_are_refused() {
        for text in ["data:/in", "/a", "/a:/b:z", "/a:/b:ro:x"] {
            assert!(volume(text).is_err(), "{text}");
        }
        for text in ["/t:noexec", "/t:size=x", "/t:mode=9"] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mount_says_its_type_and_only_that_types_keys() {
        let mounted = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared").unwrap();
        assert!(mounted.read_only && !bind(&mounted).create);
        let memory = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let want = TmpfsMount {
            size_bytes: 1 << 20,
            mode: Some(0o700),
        };
        assert_eq!(memory.source, Some(Source::Tmpfs(want)));
        for text in [
            "type=volume,src=a,dst=/b",
            "type=tmpfs,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1m",
            "type=bind,dst=/b",
            "src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,color=red",
        ] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
