//! A histogram of durations with bounded relative error: one array increment per value. Log-linear, like
//! HdrHistogram: each power of two is cut into equal parts.

/// Bits of precision inside a power of two: 32 parts, about 3 % error.
const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Powers of two covered: up to 2^40 ns, about 18 minutes; longer ones count as that.
const POWERS: usize = 41 - SUB_BITS as usize;

/// Counts of durations in nanoseconds.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; POWERS * SUB].into_boxed_slice(), total: 0 }
    }
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        let i = index(ns);
        self.counts[i] = self.counts[i].saturating_add(1);
        self.total += 1;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The duration in nanoseconds that `percent` of the values do not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return upper_bound(i);
            }
        }
        0
    }

    /// Cumulative counts at powers of two of microseconds: (limit in µs, values at or below it), from the
    /// first that is not zero to the one that covers all.
    pub fn powers_of_two_us(&self) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        let (mut seen, mut i, mut limit_us) = (0, 0, 1u64);
        while seen < self.total {
            while i < self.counts.len() && upper_bound(i) <= limit_us * 1000 {
                seen += u64::from(self.counts[i]);
                i += 1;
            }
            if seen > 0 {
                out.push((limit_us, seen));
            }
            if i == self.counts.len() {
                break;
            }
            limit_us *= 2;
        }
        out
    }
}

#[inline]
fn index(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros();
    let shift = power - SUB_BITS;
    let i = ((shift as usize + 1) << SUB_BITS) + ((ns >> shift) as usize & (SUB - 1));
    i.min(POWERS * SUB - 1)
}

/// Largest duration counted at index `i`.
fn upper_bound(i: usize) -> u64 {
    let (row, sub) = (i >> SUB_BITS, (i & (SUB - 1)) as u64);
    if row == 0 {
        return sub;
    }
    let shift = row - 1;
    ((SUB as u64 + sub + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for ns in (0..100_000u64).chain((17..40).map(|p| (1 << p) + 12345)) {
            let i = index(ns);
            assert!(upper_bound(i) >= ns, "{ns}");
            assert!(i == 0 || upper_bound(i - 1) < ns, "{ns}");
            assert!((upper_bound(i) - ns) as f64 <= 0.032 * ns as f64 + 1.0, "{ns}");
        }
    }

    #[test]
    fn percentiles_follow_the_values() {
        let mut h = Histogram::default();
        (1..=1000u64).for_each(|us| h.record(us * 1000));
        for (percent, us) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1000.0)] {
            let got = h.percentile(percent) as f64 / 1000.0;
            assert!((got - us).abs() / us < 0.04, "{percent}: {got}");
        }
        assert_eq!(h.powers_of_two_us().last().map(|(_, n)| *n), Some(1000));
    }
}
