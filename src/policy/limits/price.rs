//! What tokens cost.

use super::budget::MONEY;

/// The price of one model, by class of token: [`PARTS`]ths of [`MONEY`]ths of a unit of money, for one token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Price {
    /// Input that no cache had.
    pub input: u64,
    /// Input read from a cache.
    pub cached: u64,
    /// Input written to a cache.
    pub cache_write: u64,
    /// Output.
    pub output: u64,
}

/// The tokens of one exchange, each counted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Charge {
    /// Input that no cache had.
    pub input: u64,
    /// Input read from a cache.
    pub cached: u64,
    /// Input written to a cache.
    pub cache_write: u64,
    /// Output, reasoning included.
    pub output: u64,
}

impl Charge {
    /// From counts that include their parts: cached and written input in `input`.
    pub fn of_counts(input: u64, cached: u64, cache_write: u64, output: u64) -> Self {
        let cached = cached.min(input);
        let cache_write = cache_write.min(input - cached);
        Self { input: input - cached - cache_write, cached, cache_write, output }
    }

    /// All of them.
    pub fn tokens(&self) -> u64 {
        [self.cached, self.cache_write, self.output]
            .iter()
            .fold(self.input, |sum, part| sum.saturating_add(*part))
    }
}

impl Price {
    /// A price for a million tokens, as people write it: 2.5. Back comes what one token costs; `None` for what is no price.
    pub fn per_million(price: f64) -> Option<u64> {
        // The parts of a token's price are the parts of a million tokens' money: PARTS is a million.
        (0.0..=PRICE_MAX).contains(&price).then(|| (price * MONEY as f64).round() as u64)
    }

    /// Tokens of output that can be had for `amount`.
    pub fn output_for(&self, amount: u64) -> u64 {
        let tokens = (u128::from(amount) * u128::from(PARTS)).checked_div(self.output.into());
        tokens.map_or(u64::MAX, |tokens| u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// What these tokens cost, in [`MONEY`]ths, rounded up once.
    pub fn cost(&self, charge: &Charge) -> u64 {
        let classes = [
            (self.input, charge.input),
            (self.cached, charge.cached),
            (self.cache_write, charge.cache_write),
            (self.output, charge.output),
        ];
        let sum: u128 = classes.iter().map(|(price, count)| u128::from(*price) * u128::from(*count)).sum();
        u64::try_from(sum.div_ceil(u128::from(PARTS))).unwrap_or(u64::MAX)
    }
}

/// A token costs so little that its price is kept in smaller parts than amounts are.
pub const PARTS: u64 = 1_000_000;

/// The highest price for a million tokens.
pub const PRICE_MAX: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: f64, cached: f64, cache_write: f64, output: f64) -> Price {
        let [input, cached, cache_write, output] =
            [input, cached, cache_write, output].map(|price| Price::per_million(price).unwrap());
        Price { input, cached, cache_write, output }
    }

    #[test]
    fn each_class_of_token_is_priced_once() {
        let price = price(2.5, 1.25, 3.125, 10.0);
        for (counts, nano) in [
            ((1_000_000, 0, 0, 0), 2_500_000_000),
            ((1_000_000, 1_000_000, 0, 0), 1_250_000_000),
            (
                (1_000_000, 400_000, 100_000, 1_000_000),
                500_000 * 2_500 + 400_000 * 1_250 + 312_500_000 + 10_000_000_000,
            ),
            // Parts that are larger than their whole count as the whole.
            ((10, 50, 50, 0), 12_500),
        ] {
            let (input, cached, write, output) = counts;
            let charge = Charge::of_counts(input, cached, write, output);
            assert_eq!(charge.tokens(), input + output);
            assert_eq!(price.cost(&charge), nano, "{counts:?}");
        }
    }

    #[test]
    fn the_cheapest_token_still_costs_and_nothing_overflows() {
        let cheap = price(0.0001, 0.0, 0.0, 0.0);
        assert_eq!(cheap.cost(&Charge { input: 1, ..Charge::default() }), 1);
        assert_eq!(cheap.cost(&Charge { input: 10_000_000, ..Charge::default() }), 1_000_000);
        let dear = price(PRICE_MAX, PRICE_MAX, PRICE_MAX, PRICE_MAX);
        let most = Charge { input: u64::MAX, cached: u64::MAX, cache_write: u64::MAX, output: u64::MAX };
        assert_eq!(dear.cost(&most), u64::MAX);
        assert_eq!(most.tokens(), u64::MAX);
        for bad in [-1.0, f64::NAN, f64::INFINITY, PRICE_MAX * 2.0] {
            assert_eq!(Price::per_million(bad), None, "{bad}");
        }
    }
}
