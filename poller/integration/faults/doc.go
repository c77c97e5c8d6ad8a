// Package faults injects faults into a running copy and shows what each one does. The program
// dbtofile copies a table to files while writers insert rows. A fault begins, the program
// notices it, the fault ends, and the program recovers. Then a judge that knows nothing of
// the program compares the files with the table: rows lost, delivered twice, out of order.
//
//	go test ./poller/integration/faults               # two faults of each part, by turns
//	go test ./poller/integration/faults -all          # every fault
//	go test ./poller/integration/faults -all -v -run TestFaults/network/reset
//	go test ./poller/integration/faults -v -timeout 0 -table FAULTS.md # every fault, and the table
//
// FAULTS.md is what the last command printed. -kills and -soak.for set how often the program is
// killed and how long the soak lasts.
//
// Many faults need root, because they mount file systems and trace the program. They happen
// in a private mount namespace, so no other process sees the mounts.
package faults
