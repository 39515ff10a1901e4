//! NFs that lie. Each test ends with an honest sharer of the same device that has received every
//! packet, with right books, with every buffer at home, and with a platform that welcomes the next NF.

mod regions;
mod rings;
mod scene;
mod sending;
mod shares;
mod socket;
