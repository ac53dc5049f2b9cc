"""The arithmetic of the report: `python3 -m unittest discover -s bench/compare`."""

import unittest

import machine
import report


def window(number, peer, cpu_us, noisy=False, ok=True, shape="json@8"):
    return {"round": number, "peer": peer, "shape": shape, "ok": ok, "noisy": noisy, "cpu_us": cpu_us, "per_s": 1e6 / cpu_us}


class Report(unittest.TestCase):
    def summary(self, windows):
        return report.summarise(windows)["cpu_request_8"]

    def test_ratio_is_taken_within_a_round_and_to_the_better_proxy(self):
        windows = []
        for number, slow in ((1, 1), (2, 2)):  # the second round is twice as dear for everybody
            for peer, cost in (("nginx", 20), ("haproxy", 25), ("bare-relay", 10), ("ringway", 15)):
                windows.append(window(number, peer, cost * slow))
        cell = self.summary(windows)["ringway"]
        self.assertEqual((cell["min"], cell["max"]), (15, 30))
        self.assertEqual((cell["vs_best"]["min"], cell["vs_best"]["max"]), (0.75, 0.75))
        self.assertEqual(cell["vs_relay"]["median"], 1.5)

    def test_second_build_is_compared_with_the_first(self):
        windows = [window(1, "ringway-old", 20), window(1, "ringway-new", 15)]
        summary = self.summary(windows)
        self.assertEqual(summary["ringway-new"]["vs_first"]["median"], 0.75)
        self.assertNotIn("vs_first", summary["ringway-old"])

    def test_noisy_rounds_are_left_out_while_enough_quiet_ones_remain(self):
        rounds = [window(number, "nginx", 100 if number == 3 else 20, noisy=number == 3) for number in range(1, 5)]
        cell = self.summary(rounds)["nginx"]
        self.assertEqual((cell["max"], cell["n"], cell["excluded"], cell["noisy"]), (20, 3, 1, False))

    def test_too_few_quiet_rounds_keep_all_and_say_so(self):
        rounds = [window(number, "nginx", 20, noisy=number > 1) for number in range(1, 5)]
        cell = self.summary(rounds)["nginx"]
        self.assertEqual((cell["n"], cell["excluded"], cell["noisy"]), (4, 0, True))

    def test_void_window_counts_as_nothing_but_is_shown(self):
        cell = self.summary([window(1, "nginx", 20), window(2, "nginx", 1, ok=False)])["nginx"]
        self.assertEqual((cell["min"], cell["n"], cell["voids"]), (20, 1, 1))

    def test_added_is_the_difference_in_the_same_round(self):
        windows = []
        for number, direct in ((1, 50), (2, 90)):
            for peer, p50 in (("direct", direct), ("nginx", direct + 40)):
                windows.append(window(number, peer, 1, shape="json@1") | {"latency_us": {"p50": p50, "p99": p50}})
        cell = report.summarise(windows)["added_p50"]
        self.assertEqual((cell["nginx"]["min"], cell["nginx"]["max"]), (40, 40))
        self.assertNotIn("direct", cell)


class Machine(unittest.TestCase):
    def test_stat_of_a_command_with_spaces_and_brackets(self):
        stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 9 0 0"
        self.assertAlmostEqual(machine.cpu_s(stat), 200 * machine.TICK_S)

    def test_idle_counts_waiting_for_disks(self):
        stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 20 5 6 7 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\n"
        self.assertAlmostEqual(machine.idle_s(stat, [0]), 120 * machine.TICK_S)
        self.assertAlmostEqual(machine.stolen_s(stat, [0, 1]), 15 * machine.TICK_S)


if __name__ == "__main__":
    unittest.main()
