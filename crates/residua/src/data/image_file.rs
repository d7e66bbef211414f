//! Reading a single picture, of any size, as a network wants it.

use std::{fs, io::Cursor, path::Path};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    imageops::FilterType,
};

use super::error::DataError;

/// Largest width and height that is decoded, in pixels, and the most memory that decoding may take.
const LARGEST_SIDE: u32 = 16_384;
const LARGEST_MEMORY: u64 = 1 << 30;

/// Decodes a JPEG or PNG file of any size and colour type to `height` x `width` pixels, `[height, width,
/// channel]`.
///
/// The picture is turned upright as its EXIF data say and transparency is laid over white; then the largest
/// part of the wanted shape is cut from the middle and resized (Catmull-Rom, widened for shrinking so that
/// nothing aliases). A picture of just the right size is left as it is.
///
/// # Errors
///
/// A [`DataError`] that names the file, where it is missing, empty, truncated, too large or no image.
pub fn read_image(path: &Path, height: usize, width: usize) -> Result<Vec<u8>, DataError> {
    let problem = |problem: String| DataError::NotAnImage { path: path.into(), problem };
    let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..=LARGEST_SIDE).contains(side));
    let (Some(width), Some(height)) = (side(width), side(height)) else {
        return Err(problem(format!("nothing can be resized to {height}x{width} pixels")));
    };
    let bytes = fs::read(path).map_err(|reason| DataError::Unreadable { path: path.into(), reason })?;
    if bytes.is_empty() {
        return Err(DataError::EmptyFile {
            path: path.into(),
            remedy: "give a whole JPEG or PNG file".into(),
        });
    }
    let decoded = decode(&bytes).map_err(|error| match error {
        ImageError::Limits(limit) => {
            DataError::ImageTooLarge { path: path.into(), problem: limit.to_string(), limit: LARGEST_SIDE }
        }
        error => problem(error.to_string()),
    })?;
    if is_truncated_jpeg(&bytes) {
        return Err(problem("the file ends before the picture does".into()));
    }
    Ok(fit(over_white(decoded), height, width).into_raw())
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_MEMORY);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a JPEG file has no end-of-image marker after its first scan: its decoder fills what is missing
/// with grey.
fn is_truncated_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    if image::guess_format(bytes).ok() != Some(ImageFormat::Jpeg) {
        return false;
    }
    // Segments before the scan may embed a thumbnail with markers of its own, so they are skipped by their
    // length.
    let mut rest = &bytes[2..];
    while let [0xff, marker, high, low, ..] = *rest {
        let length = match marker {
            START_OF_SCAN => break,
            0xff => 1,
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    !rest.windows(2).any(|pair| pair == END_OF_IMAGE)
}

fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        Rgb([red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

/// Cuts the largest part of the wanted shape from the middle and resizes it.
fn fit(image: RgbImage, height: u32, width: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image;
    }
    let (full_width, full_height) = image.dimensions();
    let scaled = |side: u32, by: u32, of: u32| {
        let rounded = (u64::from(side) * u64::from(by) + u64::from(of) / 2) / u64::from(of);
        rounded.clamp(1, u64::from(u32::MAX)) as u32
    };
    let cut_width = full_width.min(scaled(full_height, width, height));
    let cut_height = full_height.min(scaled(full_width, height, width));
    let (left, top) = ((full_width - cut_width) / 2, (full_height - cut_height) / 2);
    DynamicImage::from(image)
        .crop_imm(left, top, cut_width, cut_height)
        .resize_exact(width, height, FilterType::CatmullRom)
        .into_rgb8()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{GrayImage, ImageBuffer, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;

    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn save(&self, name: &str, image: impl Into<DynamicImage>) -> PathBuf {
            let path = self.0.path().join(name);
            image.into().save(&path).unwrap();
            path
        }

        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 90]))
    }

    #[test]
    fn the_right_size_passes_untouched() {
        let (files, image) = (Files::new(), gradient(5, 4));
        let path = files.save("right.png", image.clone());
        assert_eq!(read_image(&path, 4, 5).unwrap(), image.into_raw());
    }

    #[test]
    fn every_colour_type_is_read() {
        let files = Files::new();
        let grey = files.save("grey.png", GrayImage::from_pixel(2, 2, image::Luma([70])));
        assert_eq!(read_image(&grey, 2, 2).unwrap(), [70; 12]);
        let deep = ImageBuffer::from_pixel(2, 2, Rgb([65535u16, 257 * 8, 0]));
        assert_eq!(read_image(&files.save("deep.png", deep), 2, 2).unwrap(), [255, 8, 0].repeat(4));
        let clear = RgbaImage::from_fn(2, 1, |x, _| Rgba([200, 100, 0, if x == 0 { 0 } else { 51 }]));
        assert_eq!(
            read_image(&files.save("clear.png", clear), 1, 2).unwrap(),
            [255, 255, 255, 244, 224, 204]
        );
        let path = files.write("palette.png", PALETTE_PNG);
        assert_eq!(read_image(&path, 1, 2).unwrap(), [255, 0, 0, 0, 0, 255]);
    }

    /// Two pixels, red and blue, by palette.
    const PALETTE_PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x01\x03\0\0\0\xce\xec\xed\xc9\
        \0\0\0\x06PLTE\xff\0\0\0\0\xffl\xa1\xfd\x8e\0\0\0\x0aIDATx\x9ccp\0\0\0B\0A)7\xf4\xef\
        \0\0\0\0IEND\xaeB`\x82";

    #[test]
    fn the_middle_is_cut_out_and_resized() {
        let files = Files::new();
        // A white square in the middle of black sides: only the square is seen.
        for (name, width, height) in [("wide.png", 90, 30), ("tall.png", 30, 90)] {
            let image = RgbImage::from_fn(width, height, |x, y| {
                let (x, y) = ((x + 15).wrapping_sub(width / 2), (y + 15).wrapping_sub(height / 2));
                Rgb([if x < 30 && y < 30 { 255 } else { 0 }; 3])
            });
            let found = read_image(&files.save(name, image), 10, 10).unwrap();
            assert_eq!(found, [255; 300], "{name}");
        }
        // One pixel lines are averaged away, not sampled.
        let lines = RgbImage::from_fn(64, 64, |x, _| Rgb([255 * (x % 2) as u8; 3]));
        let found = read_image(&files.save("lines.png", lines), 8, 8).unwrap();
        assert!(found.iter().all(|value| (115..=140).contains(value)), "{found:?}");
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2)] {
            let path = files.save("odd.png", gradient(width, height));
            assert_eq!(read_image(&path, 32, 24).unwrap().len(), 32 * 24 * 3);
        }
        assert!(read_image(&files.save("no.png", gradient(3, 3)), 0, 5).is_err());
    }

    #[test]
    fn jpegs_are_read_upright() {
        let files = Files::new();
        let halves = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 250 } else { 5 }; 3]));
        let path = files.save("halves.jpg", halves);
        let found = read_image(&path, 16, 32).unwrap();
        assert!(found[0] > 240 && found[31 * 3] < 15);
        // The same with an EXIF tag that says "turn by 180 degrees".
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        let mut bytes = fs::read(&path).unwrap();
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], exif.as_slice()].concat();
        bytes.splice(2..2, segment);
        let found = read_image(&files.write("turned.jpg", &bytes), 16, 32).unwrap();
        assert!(found[0] < 15 && found[31 * 3] > 240);
    }

    #[test]
    fn files_that_are_no_whole_images_are_named() {
        let files = Files::new();
        let message = |path: &Path| read_image(path, 8, 8).unwrap_err().to_string();
        let nowhere = message(&files.0.path().join("nowhere.png"));
        assert!(nowhere.contains("cannot read") && nowhere.contains("nowhere.png"), "{nowhere}");
        assert!(message(files.0.path()).contains("cannot read"));
        assert!(message(&files.write("empty.jpg", b"")).contains("empty.jpg\" is empty"));
        let text = message(&files.write("text.png", b"these are no pixels at all"));
        assert!(text.contains("text.png\" is not a readable image"), "{text}");
        let gif = message(&files.write("moving.gif", b"GIF89a\x01\0\x01\0\0\0\0;"));
        assert!(gif.contains("moving.gif\" is not a readable image"), "{gif}");

        for name in ["whole.png", "whole.jpg"] {
            let whole = fs::read(files.save(name, gradient(40, 40))).unwrap();
            assert!(read_image(&files.write("cut", &whole), 8, 8).is_ok());
            for length in [1, 2, 3, 10, 20, 40, whole.len() / 2, whole.len() - 40, whole.len() - 2] {
                let path = files.write("cut", &whole[..length]);
                let is_refused = read_image(&path, 8, 8).is_err();
                // The last bytes of a PNG are its end marker, after all pixels.
                assert!(is_refused || (name == "whole.png" && length + 12 > whole.len()), "{name} {length}");
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let files = Files::new();
        let mut bytes = fs::read(files.save("small.png", gradient(2, 2))).unwrap();
        bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let checksum = crc32(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&checksum);
        let message = read_image(&files.write("huge.png", &bytes), 8, 8).unwrap_err().to_string();
        assert!(message.contains("huge.png\" is too large an image"), "{message}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
