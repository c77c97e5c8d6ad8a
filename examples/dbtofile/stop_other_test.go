//go:build !unix

package main_test

func (p *process) stopsWell() { p.t.Skip("no signal can be sent to a process of this system") }
