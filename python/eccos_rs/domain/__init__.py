"""What every package agrees on and none owns: the cost of a call, the checks of numbers and names."""
