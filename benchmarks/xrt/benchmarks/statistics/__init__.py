"""Figures with their 95 % intervals: the cluster bootstrap, Wilson's interval, and ratios of paired times."""

from xrt.benchmarks.statistics.bootstrap import Resamples, mean_estimates
from xrt.benchmarks.statistics.estimate import UNDEFINED, Estimate, percentile
from xrt.benchmarks.statistics.ranking import ranking
from xrt.benchmarks.statistics.ratio import Ratio, ratio
from xrt.benchmarks.statistics.wilson import wilson

__all__ = ["UNDEFINED", "Estimate", "Ratio", "Resamples", "mean_estimates", "percentile", "ranking", "ratio", "wilson"]
