"""The pipeline: one folder a step, in the words of TFX (artifact, component, executor), running without it."""
