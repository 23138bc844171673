"""Every way to adapt a base network, under one interface.

    adaptation = begin(model, MethodConfig("lora", rank=8), generator)
    optimizer = adaptation.optimizer(learning_rate, head.parameters(), steps=200)
    loss = dice_loss + adaptation.regulariser()
    loss.backward(); optimizer.step(); optimizer.zero_grad()
    state = trained_state(model.network)         # what an adapter file holds
    remove_trained(model.network)                # the base network, bit for bit
    load_trained_state(model.network, state)

| module | |
|---|---|
| `catalogue` | the names, and what each trains; standard library only |
| `adaptation` | `begin`, `Adaptation`: the interface |
| `trained` | what a network was given: its state, loading, taking it away |
| `values` | weights and buffers with an offset or a new value (bias, norms, whole networks) |
| `branches` | AdaptFormer's and the spatial adapter's modules |
| `adalora`, `sora` | their rules after a step, their terms of the loss |
| `parts` | encoder, decoder, biases of the networks that we know |
| `heads` | the linear probe, and the classes that a network was trained on |
| `scratch` | a network of the same kind, drawn anew |

Low-rank updates are `reglora_core.lora`, arena's rules `reglora_core.proximal`.
"""
