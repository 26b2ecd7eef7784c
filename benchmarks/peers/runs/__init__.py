"""One program a peer. Each knows only its peer: instances come in, and raw results go out, as JSON.

In come `{"runs": R, "language": ..., ...}`; out goes one line a row,
`{"algorithm": name, "version": ..., KIND: values}`, with KIND one of

* `evidence`: the estimates of the evidence, one a run;
* `answers`: the answers drawn, one a run;
* `paths`: paths after one sweep from exact draws, one a chain.
"""
