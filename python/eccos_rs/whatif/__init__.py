"""What-if on one's own traffic: other prices, models, limits and goals, with intervals; see `eccos plan`."""

from eccos_rs.whatif.forecast import Forecast, Outcome, Worth, forecast
from eccos_rs.whatif.scenario import Scenario
from eccos_rs.whatif.traffic import LoggedTraffic, read_traffic

__all__ = ["Forecast", "LoggedTraffic", "Outcome", "Scenario", "Worth", "forecast", "read_traffic"]
