//! Pictures inside the page.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};

use super::examination::HardImage;

/// The image as a `data:` address of a PNG file.
pub(super) fn data_address(image: &HardImage) -> String {
    let [height, width] = image.size;
    let mut png = Cursor::new(Vec::new());
    RgbImage::from_raw(width as u32, height as u32, image.pixels.clone())
        .expect("an image has three bytes a pixel")
        .write_to(&mut png, ImageFormat::Png)
        .expect("pixels in memory can be encoded into memory");
    format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner()))
}
