// Package faults injects faults into a running copy and shows what each one does. The program
// dbtofile copies a table to files while writers insert rows. A fault begins, the program
// notices it, the fault ends, and the program recovers. Then a judge that knows nothing of
// the program compares the files with the table: rows lost, delivered twice, out of order.
//
//	go test ./poller/integration/faults                    # turn 0
//	FAULTS_TURN=7 go test ./poller/integration/faults      # turn 7
//	go test ./poller/integration/faults -all -timeout 0    # every fault
//	go test ./poller/integration/faults -v -timeout 0 -soak.for 10m -table FAULTS.md # every fault, and the table
//
// A turn injects two faults of each part (one with -short), and lets the other tests take one of the
// servers, or fewer values. Consecutive turns inject all faults but the jumps of the program's
// own clock, for which a part of Go's library is built again. FAULTS.md is what the last command
// wrote. A relative file is relative to this directory, where the test runs. -kills and -soak.for
// set how often the program is killed and how long the soak lasts.
//
// Many faults need root, because they mount file systems and trace the program. They happen
// in a private mount namespace, so no other process sees the mounts.
package faults
