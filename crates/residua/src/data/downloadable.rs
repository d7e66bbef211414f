//! The data sets that can be downloaded, and where they lie then.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{
    cifar::{cifar10, cifar100},
    dataset::{Dataset, Split},
    error::DataError,
};
use residua_infer::words;

/// A data set that has an official archive: `cifar10` or `cifar100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downloadable {
    /// CIFAR-10, see [`cifar10`].
    Cifar10,
    /// CIFAR-100, see [`cifar100`].
    Cifar100,
}

words!(Downloadable, "data set", { Cifar10 => "cifar10", Cifar100 => "cifar100" });

impl Downloadable {
    /// The folder that the archive holds.
    pub fn folder_name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar-10-batches-bin",
            Self::Cifar100 => "cifar-100-binary",
        }
    }

    /// Reads a split from a folder, or from the one that downloads go to.
    pub(super) fn load(self, folder: Option<&Path>, split: Split) -> Result<Dataset, DataError> {
        let read = match self {
            Self::Cifar10 => cifar10,
            Self::Cifar100 => cifar100,
        };
        if let Some(folder) = folder {
            return read(folder, split);
        }
        let folder = data_folder();
        match folder {
            Some(folder) if folder.join(self.folder_name()).is_dir() => read(&folder, split),
            folder => Err(DataError::NotDownloaded { name: self.as_str(), folder }),
        }
    }
}

/// Where downloads go if nothing else is said: `$RESIDUA_DATA`, or the user's folder for data of programs. None where there
/// is no such folder, or without the feature `download`, which knows it.
pub fn data_folder() -> Option<PathBuf> {
    match env::var_os("RESIDUA_DATA").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(folder.into()),
        #[cfg(feature = "download")]
        None => super::download::user_data_folder(),
        #[cfg(not(feature = "download"))]
        None => None,
    }
}
