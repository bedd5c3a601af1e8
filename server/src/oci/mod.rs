//! OCI formats, shared by the backends: images and their archives, references, account files, the runtime spec.
//! Pure functions of their input; knows only the model.

pub mod accounts;
pub(crate) mod declared;
pub mod image;
pub mod process;
pub mod reference;
pub mod runtime_spec;
pub mod seccomp;
