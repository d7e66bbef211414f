//! Downloads: an official archive fetched, checked and unpacked.

mod archive;
mod fetch;

use std::{
    fs,
    path::{Path, PathBuf},
};

use directories::ProjectDirs;

use self::archive::unpack;
use super::{dataset::Split, downloadable::Downloadable, error::DataError};

pub use archive::ArchiveError;
pub use fetch::{DownloadError, DownloadObserver, Patience, Remote, fetch};

/// What has become of a wish to have a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Download {
    /// It was there already.
    WasThere,
    /// It is there now.
    Done,
}

impl Downloadable {
    /// The official archive.
    pub fn remote(self) -> Remote {
        let (url, md5) = match self {
            Self::Cifar10 => (
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c32a1d4ab5d03f1284b67883e8d87530",
            ),
            Self::Cifar100 => (
                "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                "03b5dce01913d631647c71ecec9e9cb8",
            ),
        };
        Remote { url: url.into(), md5: md5.into() }
    }

    /// Fetches `remote`, which is the official archive or one like it, and unpacks it in the folder `to`, unless the data
    /// set is there. An interrupted call is gone on with by the next. The archive is kept on request.
    ///
    /// # Errors
    ///
    /// A [`DownloadError`] that says what to do.
    pub fn download(
        self,
        remote: &Remote,
        to: &Path,
        keeps_archive: bool,
        patience: Patience,
        observer: &mut dyn DownloadObserver,
    ) -> Result<Download, DownloadError> {
        let folder = to.join(self.folder_name());
        if folder.exists() {
            return match self.problem(to) {
                None => Ok(Download::WasThere),
                Some(error) => {
                    let problem = format!("{error}; {folder:?} is in its place, move it away");
                    Err(DownloadError::NotTheDataSet { url: remote.url.clone(), problem })
                }
            };
        }
        fs::create_dir_all(to).map_err(|reason| DownloadError::File { path: to.into(), reason })?;
        let archive = to.join(format!("{}.tar.gz", self.folder_name()));
        if !archive.exists() {
            fetch(remote, &archive, patience, observer)?;
        }
        observer.unpacks();
        unpack(&archive, &folder)?;
        if let Some(error) = self.problem(to) {
            return Err(DownloadError::NotTheDataSet { url: remote.url.clone(), problem: error.to_string() });
        }
        if !keeps_archive {
            fs::remove_file(&archive).map_err(|reason| DownloadError::File { path: archive, reason })?;
        }
        Ok(Download::Done)
    }

    fn problem(self, folder: &Path) -> Option<DataError> {
        [Split::Train, Split::Test].into_iter().find_map(|split| self.load(Some(folder), split).err())
    }
}

/// The user's folder for data of programs.
pub(super) fn user_data_folder() -> Option<PathBuf> {
    Some(ProjectDirs::from("", "", "residua")?.data_dir().to_owned())
}
