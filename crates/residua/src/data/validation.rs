//! Images that are held out of the training images, to choose by.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{
    error::DataError,
    folder::ImageFolder,
    images::Images,
    random_stream::{Purpose, permutation},
};
use residua_infer::serde_as_string;

/// Which images a run is validated on: so many, or such a share, of the training images, which are then not learnt from (*Deep Residual
/// Learning for Image Recognition*, section 4.2, holds out 5,000 of CIFAR-10), or pictures in a folder of their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Validation {
    /// So many of the training images, drawn by the run's seed.
    Images(u32),
    /// Such a share of them, above 0 and below 1.
    Share(f64),
    /// The pictures in `DIR/CLASS`.
    Folder(PathBuf),
}

impl Validation {
    /// What is left of the training images, and the images to validate on.
    ///
    /// # Errors
    ///
    /// [`DataError::HeldOut`] where none or all of the images would be held out; those of [`ImageFolder::open`] for a folder.
    pub fn hold_out(&self, training: Images, seed: u64) -> Result<(Images, Images), DataError> {
        let images = training.len();
        let held = match self {
            Self::Images(held) => *held as usize,
            Self::Share(share) => (share * images as f64).round() as usize,
            Self::Folder(folder) => {
                let Images::Files(pictures) = &training else {
                    return Err(DataError::ValidationFolder {
                        name: training.name().into(),
                        folder: folder.clone(),
                    });
                };
                let held = Images::Files(ImageFolder::beside(pictures, folder)?);
                return Ok((training, held));
            }
        };
        if held == 0 || held >= images {
            return Err(DataError::HeldOut { name: training.name().into(), held, images });
        }
        let order = permutation(seed, Purpose::Validation, 0, images);
        let mut is_held = vec![false; images];
        order[..held].iter().for_each(|&image| is_held[image as usize] = true);
        Ok(training.divided(&is_held))
    }
}

impl FromStr for Validation {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let wrong = || DataError::Validation { given: text.to_owned() };
        if let Ok(images) = text.parse() {
            return Ok(Self::Images(images));
        }
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse().map(|percent: f64| percent / 100.),
            None => text.parse(),
        };
        match share {
            Ok(share) if share > 0. && share < 1. => Ok(Self::Share(share)),
            Ok(_) => Err(wrong()),
            Err(_) if text.is_empty() => Err(wrong()),
            Err(_) => Ok(Self::Folder(text.into())),
        }
    }
}

impl fmt::Display for Validation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(images) => write!(formatter, "{images}"),
            Self::Share(share) => write!(formatter, "{share}"),
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
        }
    }
}

serde_as_string!(Validation);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    #[test]
    fn numbers_shares_and_folders_are_told_apart() {
        let read = |text: &str| text.parse::<Validation>();
        assert_eq!(read("5000").unwrap(), Validation::Images(5000));
        assert_eq!(read("0.1").unwrap(), Validation::Share(0.1));
        assert_eq!(read("10%").unwrap(), Validation::Share(0.1));
        assert_eq!(read("pets/val").unwrap(), Validation::Folder("pets/val".into()));
        for text in ["", "1.5", "-3", "100%", "nan", "0.0"] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains("a number of images, such as 5000"), "{message}");
        }
        for validation in [Validation::Images(7), Validation::Share(0.25), Validation::Folder("a/b".into())] {
            assert_eq!(read(&validation.to_string()).unwrap(), validation);
        }
    }

    #[test]
    fn every_image_is_learnt_from_or_held_out() {
        let classes = (0..20).map(|class| class.to_string()).collect();
        let pixels = (0..20u8).flat_map(|image| [image; 3]).collect();
        let images = Dataset::new("tiny", classes, (1, 1), pixels, (0..20).collect()).unwrap();
        let images = || Images::from(images.clone());
        let split = |validation: Validation, seed| {
            let (training, held) = validation.hold_out(images(), seed).unwrap();
            assert_eq!(training.classes().len(), 20);
            for part in [&training, &held] {
                assert!(
                    (0..part.len()).all(|image| part.image(image).unwrap()[0] == part.labels()[image] as u8)
                );
            }
            (training.labels().to_vec(), held.labels().to_vec())
        };
        let (training, held) = split(Validation::Images(5), 1);
        assert_eq!((training.len(), held.len()), (15, 5));
        assert!(training.is_sorted() && held.is_sorted());
        let mut all = [training, held.clone()].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20));
        assert_eq!(split(Validation::Share(0.25), 1).1, held);
        assert_ne!(split(Validation::Images(5), 2).1, held);
        for held in [0, 20, 4_000_000_000] {
            let message = Validation::Images(held).hold_out(images(), 1).unwrap_err().to_string();
            assert!(message.contains(&format!("{held} of the 20 training images")), "{message}");
        }
        let message = Validation::Folder("val".into()).hold_out(images(), 1).unwrap_err().to_string();
        assert!(message.contains("tiny") && message.contains("val"), "{message}");
    }
}
