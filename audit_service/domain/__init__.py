"""Values and rules. No I/O: numpy, scipy, statsmodels, pydantic, safetensors and yaml (text to value) at most."""
