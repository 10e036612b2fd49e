/*
 * supervise: runs one command and answers for it and everything it started.
 *
 * A server outlives the script that started it, so somebody has to stay who ends it when it is no
 * longer wanted: on a signal, when its owner (the test run, the demo) is gone however that came
 * about, and when the command itself ended but left children behind. As a "child subreaper" this
 * process inherits every orphan below it, so none escapes by daemonising or by a session of its own.
 *
 *   supervise [-d] [-o OWNER_PID] [-p PIDFILE] [-l LOGFILE] [-s STOP_SIGNAL] [-g GRACE_SECONDS]
 *             [-t LIMIT_SECONDS] -- COMMAND ARGUMENT...
 *
 * -d goes to the background once the command runs; the pid file then holds this process's pid and
 * start time, which together name it beyond doubt. SIGTERM, SIGINT and SIGHUP stop the command in
 * order; SIGUSR1 kills all at once, as a crash would. Without -d the exit status is the command's,
 * or 124 when the limit ended it. Called by the scripts in this folder and by test/run; it must
 * never signal a process that is not below it.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct Supervisor
{
	bool		background;
	pid_t		owner;
	const char *pid_file;
	const char *log_file;
	int			stop_signal;
	int			grace;
	int			limit;			/* seconds; 0 is none */

	pid_t		command;
	bool		running;		/* the command itself, not what it started */
	int			status;			/* the command's, as from waitpid */
	bool		timed_out;
	bool		crash;			/* SIGKILL from now on */
	double		deadline;		/* when order gives way to SIGKILL; 0 is never */
	double		limit_at;
} Supervisor;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Field 22 of /proc/PID/stat, counted behind the name, which may hold anything. */
static unsigned long long
start_time(pid_t pid)
{
	char		path[64];
	char		line[1024];
	unsigned long long ticks = 0;
	FILE	   *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
	if ((f = fopen(path, "r")) == NULL)
		return 0;
	if (fgets(line, sizeof line, f) != NULL)
	{
		char	   *p = strrchr(line, ')');

		for (int field = 2; p != NULL && field < 22; field++)
			p = strchr(p + 1, ' ');
		if (p != NULL)
			ticks = strtoull(p, NULL, 10);
	}
	fclose(f);
	return ticks;
}

static void
write_pid_file(const char *path)
{
	char		temporary[4096];
	FILE	   *f;

	snprintf(temporary, sizeof temporary, "%s.new", path);
	if ((f = fopen(temporary, "w")) == NULL)
		err(1, "could not write %s", temporary);
	fprintf(f, "%d %llu\n", (int) getpid(), start_time(getpid()));
	if (fclose(f) != 0 || rename(temporary, path) != 0)
		err(1, "could not write %s", path);
}

/* Signals each child of this process; with orphans inherited, that is all there is below it. */
static void
signal_children(int signal)
{
	char		path[64];
	FILE	   *f;
	int			pid;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int) getpid());
	if ((f = fopen(path, "r")) == NULL)
		return;
	while (fscanf(f, "%d", &pid) == 1)
		kill(pid, signal);
	fclose(f);
}

static void
reap(Supervisor *s)
{
	int			status;
	pid_t		pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
	{
		if (pid != s->command)
			continue;
		s->running = false;
		s->status = status;
		if (s->crash)
			continue;
		/* What it left behind has a moment to end by itself. */
		signal_children(SIGTERM);
		s->deadline = now() + (s->grace < 5 ? s->grace : 5);
	}
}

static void
stop(Supervisor *s)
{
	if (s->deadline > 0)
		return;
	if (s->running)
		kill(s->command, s->stop_signal);
	s->deadline = now() + s->grace;
}

static void
start_command(Supervisor *s, char **command)
{
	pid_t		supervisor = getpid();
	sigset_t	none;

	s->command = fork();
	if (s->command < 0)
		err(1, "could not fork");
	if (s->command > 0)
	{
		s->running = true;
		return;
	}
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(command[0], command);
	warn("could not run %s", command[0]);
	_exit(127);
}

static bool
owner_is_gone(Supervisor *s, int owner_fd, struct pollfd *fd)
{
	if (s->owner == 0)
		return false;
	if (owner_fd >= 0)
		return fd->revents != 0;
	return kill(s->owner, 0) != 0 && errno == ESRCH;
}

static void
watch(Supervisor *s, int signal_fd)
{
	int			owner_fd = s->owner ? (int) syscall(SYS_pidfd_open, s->owner, 0) : -1;

	if (s->owner && owner_fd < 0 && errno == ESRCH)
		stop(s);
	for (;;)
	{
		struct pollfd fds[2] = {{signal_fd, POLLIN, 0}, {owner_fd, POLLIN, 0}};
		struct signalfd_siginfo signal;
		bool		timed = s->crash || s->deadline > 0 || s->limit > 0 || (s->owner && owner_fd < 0);

		poll(fds, 2, timed ? 200 : -1);
		while (read(signal_fd, &signal, sizeof signal) == sizeof signal)
		{
			if (signal.ssi_signo == SIGUSR1)
				s->crash = true;
			else if (signal.ssi_signo != SIGCHLD)
				stop(s);
		}
		if (owner_is_gone(s, owner_fd, &fds[1]))
		{
			stop(s);
			if (owner_fd >= 0)
				close(owner_fd);
			owner_fd = -1;
			s->owner = 0;
		}
		if (s->limit > 0 && !s->timed_out && now() > s->limit_at)
		{
			s->timed_out = true;
			stop(s);
		}
		if (s->crash || (s->deadline > 0 && now() >= s->deadline))
			signal_children(SIGKILL);
		reap(s);
		if (!s->running && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
	}
}

static int
signal_number(const char *name)
{
	if (strcmp(name, "INT") == 0)
		return SIGINT;
	if (strcmp(name, "QUIT") == 0)
		return SIGQUIT;
	if (strcmp(name, "TERM") == 0)
		return SIGTERM;
	errx(2, "no such stop signal: %s", name);
}

static void
read_arguments(Supervisor *s, int argc, char **argv)
{
	int			c;

	while ((c = getopt(argc, argv, "+do:p:l:s:g:t:")) != -1)
	{
		switch (c)
		{
			case 'd':
				s->background = true;
				break;
			case 'o':
				s->owner = atoi(optarg);
				break;
			case 'p':
				s->pid_file = optarg;
				break;
			case 'l':
				s->log_file = optarg;
				break;
			case 's':
				s->stop_signal = signal_number(optarg);
				break;
			case 'g':
				s->grace = atoi(optarg);
				break;
			case 't':
				s->limit = atoi(optarg);
				break;
			default:
				exit(2);
		}
	}
	if (optind == argc)
		errx(2, "no command given");
}

static void
open_log(const char *path)
{
	int			fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (fd < 0)
		err(1, "could not open %s", path);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

/* The parent returns to the shell only when the pid file is there to be read. */
static void
go_to_background(void)
{
	int			ready[2];
	char		byte;
	pid_t		pid;
	int			null;

	if (pipe2(ready, O_CLOEXEC) != 0 || (pid = fork()) < 0)
		err(1, "could not fork");
	if (pid > 0)
	{
		close(ready[1]);
		_exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
	}
	setsid();
	null = open("/dev/null", O_RDWR);
	dup2(null, STDIN_FILENO);
	dup2(ready[1], 3);
	if (ready[1] != 3)
		close(ready[1]);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	closefrom(4);
}

int
main(int argc, char **argv)
{
	Supervisor	s = {.stop_signal = SIGTERM,.grace = 20};
	sigset_t	signals;
	int			signal_fd;

	read_arguments(&s, argc, argv);
	if (s.background)
		go_to_background();
	if (s.log_file)
		open_log(s.log_file);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	s.limit_at = now() + s.limit;

	start_command(&s, argv + optind);
	if (s.pid_file)
		write_pid_file(s.pid_file);
	if (s.background && write(3, "x", 1) != 1)
		warn("could not tell the caller");
	if (s.background)
		close(3);
	watch(&s, signal_fd);
	if (s.pid_file)
		unlink(s.pid_file);
	if (s.timed_out)
		return 124;
	return WIFEXITED(s.status) ? WEXITSTATUS(s.status) : 128 + WTERMSIG(s.status);
}
