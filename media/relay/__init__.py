"""
The live relay: one session at Ring per camera, any number of viewers, nothing decoded or encoded.

`rtp` and `loss` are arithmetic; `stream` is one camera's continuous picture, whichever session it comes from; `viewer`
rewrites it for one viewer; `negotiate` fits offers and answers; `wire` holds every use of aiortc's internals; `camera`
opens and splices sessions; `hub` is the thread they all run in. No database and no Django here: `media.relaying` knows those.
"""
