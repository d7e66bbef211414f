//! The `residua` command as a user meets it: every test starts the program.

mod sandbox;
mod tiny_cifar;

mod advice;
mod at_once;
mod bad_input;
mod calibrate;
mod changed_data;
mod contract;
mod cost;
mod download;
mod evaluate;
mod explain;
mod export;
mod features;
mod file_systems;
mod fine_tuning;
mod folders;
mod help;
mod import;
mod inception;
mod interrupt;
mod kept_runs;
mod limits;
mod no_number;
mod output;
mod paper;
mod pictures;
mod preview;
mod propagate;
mod recipes;
mod reports;
mod resume;
mod runs;
mod terminal;
