"""Small finished runs on real digits, shared by the tests of the panels on runs."""

import flatlab as fl

SPEC = fl.ModelSpec(name="lenet", width=0.125)


def six_clients():
    """Digits held by six clients."""
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)


def trained(algorithm, data, store, rounds=3, **settings):
    """A run of three rounds, half of the clients in each."""
    settings = {"participation": 0.5, "evaluation": fl.Evaluation(clients_every=3), "progress": False} | settings
    return fl.train(algorithm, data, SPEC, rounds, store=store, **settings)


def click(button):
    """What a front end sends when somebody clicks."""
    button._handle_custom_msg({"event": "click"}, [])
