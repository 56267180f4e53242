"""RoboCasa's 24 atomic tasks as v0.2 names them, the kitchens of the evaluation, and what releases do differently."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KitchenTask:
    """One task.

    Attributes:
        horizon: control steps, of v0.2's `dataset_registry.py`.
        renamed: the environment in RoboCasa365 (v1.x).
        door: there, what kind of fixture is meant (a name of `FixtureType`), "" if the name says it.
    """

    horizon: int
    renamed: str
    door: str = ""


# v1.x has one task for cabinets of any number of doors, and other tasks for microwaves; v0.2's single door is either.
TASKS = {
    "PnPCounterToCab": KitchenTask(500, "PickPlaceCounterToCabinet"),
    "PnPCabToCounter": KitchenTask(500, "PickPlaceCabinetToCounter"),
    "PnPCounterToSink": KitchenTask(700, "PickPlaceCounterToSink"),
    "PnPSinkToCounter": KitchenTask(500, "PickPlaceSinkToCounter"),
    "PnPCounterToMicrowave": KitchenTask(600, "PickPlaceCounterToMicrowave"),
    "PnPMicrowaveToCounter": KitchenTask(500, "PickPlaceMicrowaveToCounter"),
    "PnPCounterToStove": KitchenTask(500, "PickPlaceCounterToStove"),
    "PnPStoveToCounter": KitchenTask(500, "PickPlaceStoveToCounter"),
    "OpenSingleDoor": KitchenTask(500, "OpenCabinet", "CABINET_SINGLE_DOOR"),
    "CloseSingleDoor": KitchenTask(500, "CloseCabinet", "CABINET_SINGLE_DOOR"),
    "OpenDoubleDoor": KitchenTask(1000, "OpenCabinet", "CABINET_DOUBLE_DOOR"),
    "CloseDoubleDoor": KitchenTask(700, "CloseCabinet", "CABINET_DOUBLE_DOOR"),
    "OpenDrawer": KitchenTask(500, "OpenDrawer"),
    "CloseDrawer": KitchenTask(500, "CloseDrawer"),
    "TurnOnSinkFaucet": KitchenTask(500, "TurnOnSinkFaucet"),
    "TurnOffSinkFaucet": KitchenTask(500, "TurnOffSinkFaucet"),
    "TurnSinkSpout": KitchenTask(500, "TurnSinkSpout"),
    "TurnOnStove": KitchenTask(500, "TurnOnStove"),
    "TurnOffStove": KitchenTask(500, "TurnOffStove"),
    "CoffeeSetupMug": KitchenTask(600, "CoffeeSetupMug"),
    "CoffeeServeMug": KitchenTask(600, "CoffeeServeMug"),
    "CoffeePressButton": KitchenTask(300, "StartCoffeeMachine"),
    "TurnOnMicrowave": KitchenTask(500, "TurnOnMicrowave"),
    "TurnOffMicrowave": KitchenTask(500, "TurnOffMicrowave"),
}

# (layout, style) in v0.2's numbers, and how many evaluation episodes in a row play in each.
KITCHENS = ((1, 1), (2, 2), (4, 4), (6, 9), (7, 10))
IN_A_ROW = 10


@dataclass(frozen=True)
class Release:
    """A version of RoboCasa that this env was checked with.

    Attributes:
        pins: the versions of other packages that it was checked with.
        renamed: whether tasks have the names of RoboCasa365.
        first: the number of the first layout and style.
        seen: the split of objects that demonstrations were recorded with.
        unseen: the split that policies are judged on.
        assets: patterns of paths in the package's `models/assets` that are there once its assets were downloaded.
    """

    pins: dict[str, str]
    renamed: bool
    first: int
    seen: str
    unseen: str
    assets: tuple[str, ...]


RELEASES = {
    "0.2.0": Release(
        {"robosuite": "1.5.1", "mujoco": "3.2.6", "numpy": "1.26.4"},
        renamed=False,
        first=0,
        seen="A",
        unseen="B",
        assets=("textures/*", "fixtures/accessories/outlets/*/visuals/*.obj", "objects/objaverse/*"),
    ),
    "1.0.1": Release(
        {"robosuite": "1.5.2", "mujoco": "3.3.1", "numpy": "2.2.5"},
        renamed=True,
        first=1,
        seen="pretrain",
        unseen="target",
        assets=("textures/*", "fixtures/toasters/*", "objects/objaverse/*", "objects/lightwheel/*"),
    ),
}
