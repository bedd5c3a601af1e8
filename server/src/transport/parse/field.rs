//! The path of a request's field, and what can be wrong with it.

use std::fmt;

use crate::transport::Violations;

/// What `BadRequest.field_violations[].reason` can be. As stable as the API: only added to.
pub(crate) mod reason {
    /// The field must be set.
    pub(crate) const REQUIRED: &str = "REQUIRED";
    /// The value breaks the field's form.
    pub(crate) const MALFORMED: &str = "MALFORMED";
    /// The value is larger or smaller than the field may be.
    pub(crate) const OUT_OF_RANGE: &str = "OUT_OF_RANGE";
    /// The text or bytes are too long, alone or all together.
    pub(crate) const TOO_LONG: &str = "TOO_LONG";
    /// There are too many entries.
    pub(crate) const TOO_MANY: &str = "TOO_MANY";
    /// The value is none of those that are known.
    pub(crate) const UNKNOWN_VALUE: &str = "UNKNOWN_VALUE";
    /// An earlier entry says the same.
    pub(crate) const DUPLICATE: &str = "DUPLICATE";
    /// The value does not go with that of another field.
    pub(crate) const CONFLICT: &str = "CONFLICT";
    /// The key belongs to the server.
    pub(crate) const RESERVED: &str = "RESERVED";
    /// The field is set, and the update mask does not name it.
    pub(crate) const NOT_IN_MASK: &str = "NOT_IN_MASK";
}

/// The path of a field: `spec.mounts[2].target`. Text is made only when something is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

/// How much of a map's key a path shows: keys come from the caller and can be of any length.
const SHOWN_KEY_CHARS: usize = 64;

impl<'a> Field<'a> {
    /// A field of the request itself.
    pub(crate) const fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Name(name),
        }
    }

    /// A field of this message.
    pub(crate) const fn child(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Name(name),
        }
    }

    /// An entry of this list.
    pub(crate) const fn at(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of this map.
    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// Notes that the field is wrong.
    pub(crate) fn reject(
        &self,
        reason: &'static str,
        description: impl Into<String>,
        out: &mut Violations,
    ) {
        out.add(self.to_string(), reason, description);
    }

    /// Notes that the field must be set.
    pub(crate) fn missing(&self, out: &mut Violations) {
        self.reject(reason::REQUIRED, "must be set", out);
    }

    /// Notes that no backend has the option.
    pub(crate) fn unsupported(&self, out: &mut Violations) {
        out.unsupported(self.to_string());
    }

    /// Reads an enum's number.
    pub(crate) fn enumeration<E: TryFrom<i32>>(
        &self,
        number: i32,
        out: &mut Violations,
    ) -> Option<E> {
        let value = E::try_from(number).ok();
        if value.is_none() {
            self.reject(
                reason::UNKNOWN_VALUE,
                format!("{number} is no value of this enum"),
                out,
            );
        }
        value
    }

    /// Notes that a list has more entries than it may; false if so.
    pub(crate) fn count(&self, count: usize, max: usize, out: &mut Violations) -> bool {
        if count > max {
            self.reject(
                reason::TOO_MANY,
                format!("{count} entries; at most {max} are allowed"),
                out,
            );
        }
        count <= max
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{:?}]", shown(key)),
        }
    }
}

/// As much of a text as a path or description may show.
pub(crate) fn shown(text: &str) -> &str {
    match text.char_indices().nth(SHOWN_KEY_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_each_step() {
        let spec = Field::new("spec");
        let mounts = spec.child("mounts");
        let mount = mounts.at(2);
        assert_eq!(mount.child("target").to_string(), "spec.mounts[2].target");
        assert_eq!(
            Field::new("labels").key("a\"b").to_string(),
            r#"labels["a\"b"]"#
        );
    }

    #[test]
    fn a_long_key_is_cut_in_a_path() {
        let key = "ä".repeat(1_000_000);
        assert!(Field::new("labels").key(&key).to_string().len() < 200);
    }
}
