//! stub
#![allow(missing_docs)]
pub struct Wheel;
#[derive(PartialEq)]
pub enum Advance {
    Idle,
    More,
}
impl Wheel {
    pub fn new(_: i64) -> Self {
        Wheel
    }
    pub fn file(&mut self, _: u64, _: i64) {}
    pub fn len(&self) -> usize {
        0
    }
    pub fn memory_bytes(&self) -> usize {
        0
    }
    pub fn next_due_ms(&self) -> Option<i64> {
        None
    }
    pub fn advance(&mut self, _: i64, _: usize, _: &mut dyn FnMut(u64) -> Option<i64>) -> Advance {
        Advance::Idle
    }
    pub fn compact(&mut self, _: usize, _: &mut dyn FnMut(u64) -> Option<i64>) {}
    pub fn sample(&self, _: &mut dyn FnMut() -> u64, _: usize, _: &mut dyn FnMut(u64)) {}
}
