//go:build linux

package faults

func fileFaults() []fault    { return nil }
func syscallFaults() []fault { return nil }
func processFaults() []fault { return nil }
