"""Actions read from video that has none, by a policy's inverse dynamics, and how far they can be relied on.

A step's action is the mean of those that are drawn, from different noise, given the true video: of windows that begin
every `execute` steps, as the policy itself looks, and of each its first `execute` actions. Past its end, an episode
shows its last frame, as in training.

The confidence of an episode's labels is 1 / (1 + s^2), where s^2 is the variance of these draws, in the units in which
the model learnt its actions: a mean over the episode's steps and over the dimensions that vary. For labels of unit
variance it is the share of it that is not noise (their reliability). It is the model's own opinion: of draws in few
steps, which hardly differ, and of video unlike all that it has seen, it thinks too well.
"""
