//! Decoding a picture file: any format, size and colour type, to upright RGB.

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

use super::error::PictureError;
use crate::view::View;

/// Largest width and height that is decoded, in pixels, and the most memory that decoding may take.
const LARGEST_SIDE: u32 = View::LARGEST_SIDE as u32;
const LARGEST_MEMORY: u64 = 1 << 30;

/// Extensions of the files that are taken for pictures, in lower case.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// Decodes a JPEG, PNG, WebP, BMP or GIF file (of an animation the first frame) of any size and colour type.
///
/// The format is found from the content. The picture is turned upright as its EXIF data say, transparency is laid over
/// white, 16 bits a channel become 8, grey and CMYK become RGB.
///
/// # Errors
///
/// A [`PictureError`] that names the file, where it is missing, empty, truncated, too large or no image.
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    let problem = |problem: String| PictureError::NotAnImage { path: path.into(), problem };
    let too_large =
        |problem: String| PictureError::ImageTooLarge { path: path.into(), problem, limit: LARGEST_SIDE };
    let bytes = read_file(path).map_err(|reason| PictureError::Unreadable { path: path.into(), reason })?;
    let Some(bytes) = bytes else { return Err(too_large("the file alone is larger".into())) };
    if bytes.is_empty() {
        return Err(PictureError::EmptyFile {
            path: path.into(),
            remedy: "give a whole picture file".into(),
        });
    }
    let decoded = decode(&bytes).map_err(|error| match error {
        ImageError::Limits(limit) => too_large(limit.to_string()),
        error => problem(error.to_string()),
    })?;
    if is_truncated_jpeg(&bytes) {
        return Err(problem("the file ends before the picture does".into()));
    }
    if decoded.width() == 0 || decoded.height() == 0 {
        return Err(problem("it has no pixels".into()));
    }
    Ok(over_white(decoded))
}

/// The content of an ordinary file; nothing if it is larger than any picture's memory may be.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A pipe could be waited for without end.
    if !found.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    if found.len() > LARGEST_MEMORY { Ok(None) } else { fs::read(path).map(Some) }
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
    !rest.windows(2).rev().any(|pair| pair == END_OF_IMAGE)
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

    /// The pixels of a picture, and their width and height.
    fn read(path: &Path) -> (Vec<u8>, (u32, u32)) {
        let picture = read_picture(path).unwrap();
        let size = picture.dimensions();
        (picture.into_raw(), size)
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 90]))
    }

    #[test]
    fn every_colour_type_is_read() {
        let files = Files::new();
        let grey = files.save("grey.png", GrayImage::from_pixel(2, 2, image::Luma([70])));
        assert_eq!(read(&grey), (vec![70; 12], (2, 2)));
        let deep = ImageBuffer::from_pixel(2, 2, Rgb([65535u16, 257 * 8, 0]));
        assert_eq!(read(&files.save("deep.png", deep)), ([255, 8, 0].repeat(4), (2, 2)));
        let clear = RgbaImage::from_fn(2, 1, |x, _| Rgba([200, 100, 0, if x == 0 { 0 } else { 51 }]));
        assert_eq!(read(&files.save("clear.png", clear)).0, [255, 255, 255, 244, 224, 204]);
        let path = files.write("palette.png", PALETTE_PNG);
        assert_eq!(read(&path), (vec![255, 0, 0, 0, 0, 255], (2, 1)));
    }

    /// Two pixels, red and blue, by palette.
    const PALETTE_PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x01\x03\0\0\0\xce\xec\xed\xc9\
        \0\0\0\x06PLTE\xff\0\0\0\0\xffl\xa1\xfd\x8e\0\0\0\x0aIDATx\x9ccp\0\0\0B\0A)7\xf4\xef\
        \0\0\0\0IEND\xaeB`\x82";

    #[test]
    fn jpegs_are_read_upright() {
        let files = Files::new();
        let halves = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 250 } else { 5 }; 3]));
        let path = files.save("halves.jpg", halves);
        let (found, _) = read(&path);
        assert!(found[0] > 240 && found[31 * 3] < 15);
        // The same with an EXIF tag that says "turn by 180 degrees".
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        let mut bytes = fs::read(&path).unwrap();
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], exif.as_slice()].concat();
        bytes.splice(2..2, segment);
        let (found, _) = read(&files.write("turned.jpg", &bytes));
        assert!(found[0] < 15 && found[31 * 3] > 240);
    }

    #[test]
    fn files_that_are_no_whole_images_are_named() {
        let files = Files::new();
        let message = |path: &Path| read_picture(path).unwrap_err().to_string();
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
            assert!(read_picture(&files.write("cut", &whole)).is_ok());
            for length in [1, 2, 3, 10, 20, 40, whole.len() / 2, whole.len() - 40, whole.len() - 2] {
                let path = files.write("cut", &whole[..length]);
                let is_refused = read_picture(&path).is_err();
                // The last bytes of a PNG are its end marker, after all pixels.
                assert!(is_refused || (name == "whole.png" && length + 12 > whole.len()), "{name} {length}");
            }
        }
    }

    #[test]
    fn other_formats_are_read_and_found_by_their_content() {
        let files = Files::new();
        let picture = gradient(9, 7);
        for name in ["lossless.webp", "plain.bmp", "moving.gif", "png.jpg"] {
            let path = match name {
                // A PNG file that is called a JPEG.
                "png.jpg" => files.write(name, &fs::read(files.save("some.png", picture.clone())).unwrap()),
                _ => files.save(name, picture.clone()),
            };
            let (pixels, size) = read(&path);
            assert_eq!(size, (9, 7), "{name}");
            // GIF has 256 colours.
            let tolerance = if name == "moving.gif" { 16 } else { 0 };
            let is_near = pixels.iter().zip(picture.as_raw()).all(|(a, b)| a.abs_diff(*b) <= tolerance);
            assert!(is_near, "{name}");
        }
    }

    #[test]
    fn of_an_animation_the_first_frame_is_read() {
        use image::{Delay, Frame, codecs::gif::GifEncoder};
        let mut bytes = Vec::new();
        let frame = |value| {
            Frame::from_parts(
                RgbaImage::from_pixel(3, 2, Rgba([value, 0, 0, 255])),
                0,
                0,
                Delay::from_numer_denom_ms(10, 1),
            )
        };
        GifEncoder::new(&mut bytes).encode_frames([frame(200), frame(20)]).unwrap();
        let (pixels, size) = read(&Files::new().write("moving.gif", &bytes));
        assert_eq!((size, pixels[0]), ((3, 2), 200));
    }

    #[test]
    fn cmyk_becomes_rgb() {
        // Left half red, right half light grey; written by Pillow, see `make.py` beside it.
        let bytes = include_bytes!("../../tests/fixtures/augmentation/cmyk.jpg");
        let (pixels, size) = read(&Files::new().write("cmyk.jpg", bytes));
        assert_eq!(size, (32, 16));
        let near = |at: usize, expected: [u8; 3]| {
            pixels[3 * at..][..3].iter().zip(expected).all(|(value, expected)| value.abs_diff(expected) < 12)
        };
        assert!(
            near(3, [255, 0, 0]) && near(28, [204, 204, 204]),
            "{:?} {:?}",
            &pixels[9..12],
            &pixels[84..87]
        );
    }

    #[test]
    fn what_is_no_ordinary_file_is_not_waited_for() {
        let files = Files::new();
        let huge = files.write("huge.jpg", b"\xff\xd8");
        fs::File::options().write(true).open(&huge).unwrap().set_len(LARGEST_MEMORY + 1).unwrap();
        let message = read_picture(&huge).unwrap_err().to_string();
        assert!(message.contains("huge.jpg\" is too large an image (the file alone is larger)"), "{message}");
        #[cfg(unix)]
        {
            let message = read_picture(Path::new("/dev/zero")).unwrap_err().to_string();
            assert!(message.contains("it is no ordinary file"), "{message}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let files = Files::new();
        let mut bytes = fs::read(files.save("small.png", gradient(2, 2))).unwrap();
        bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let checksum = crc32(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&checksum);
        let message = read_picture(&files.write("huge.png", &bytes)).unwrap_err().to_string();
        assert!(message.contains("huge.png\" is too large an image"), "{message}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
