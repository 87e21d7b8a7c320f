"""Values and rules. No I/O: numpy, scipy, statsmodels and pydantic at most."""
