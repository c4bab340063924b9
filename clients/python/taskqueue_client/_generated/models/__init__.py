"""Contains all the data models used in inputs/outputs"""

from .all_dead_letters_requeued import AllDeadLettersRequeued
from .attempt import Attempt
from .attempt_list import AttemptList
from .backlog_check import BacklogCheck
from .check_status import CheckStatus
from .create_task_request import CreateTaskRequest
from .create_tasks_request import CreateTasksRequest
from .created_task import CreatedTask
from .created_tasks import CreatedTasks
from .dead_letter import DeadLetter
from .dead_letter_filter import DeadLetterFilter
from .dead_letter_group import DeadLetterGroup
from .dead_letter_group_list import DeadLetterGroupList
from .dead_letter_list import DeadLetterList
from .dead_letters_cleared import DeadLettersCleared
from .event_page import EventPage
from .event_type import EventType
from .events_check import EventsCheck
from .events_missed import EventsMissed
from .events_missed_data import EventsMissedData
from .events_missed_type import EventsMissedType
from .frame_refused import FrameRefused
from .frame_refused_data import FrameRefusedData
from .frame_refused_type import FrameRefusedType
from .gap_reason import GapReason
from .health import Health
from .health_check import HealthCheck
from .health_checks import HealthChecks
from .health_status import HealthStatus
from .liveness import Liveness
from .priority import Priority
from .problem import Problem
from .queue_changed import QueueChanged
from .queue_depth import QueueDepth
from .queue_depth_reported import QueueDepthReported
from .queue_depth_reported_data import QueueDepthReportedData
from .queue_depth_reported_type import QueueDepthReportedType
from .queue_depths import QueueDepths
from .queue_paused import QueuePaused
from .queue_paused_data import QueuePausedData
from .queue_paused_type import QueuePausedType
from .queue_purged import QueuePurged
from .queue_resumed import QueueResumed
from .queue_resumed_data import QueueResumedData
from .queue_resumed_type import QueueResumedType
from .queue_stats import QueueStats
from .queue_totals import QueueTotals
from .readiness import Readiness
from .retry_all_dead_letters import RetryAllDeadLetters
from .retry_one_dead_letter import RetryOneDeadLetter
from .retry_wanted_dead_letters import RetryWantedDeadLetters
from .running_task import RunningTask
from .subscription_request import SubscriptionRequest
from .subscription_request_action import SubscriptionRequestAction
from .subscription_updated import SubscriptionUpdated
from .subscription_updated_data import SubscriptionUpdatedData
from .subscription_updated_type import SubscriptionUpdatedType
from .system_metrics_reported import SystemMetricsReported
from .system_metrics_reported_data import SystemMetricsReportedData
from .system_metrics_reported_type import SystemMetricsReportedType
from .task import Task
from .task_cancelled import TaskCancelled
from .task_cancelled_data import TaskCancelledData
from .task_cancelled_type import TaskCancelledType
from .task_completed import TaskCompleted
from .task_completed_data import TaskCompletedData
from .task_completed_type import TaskCompletedType
from .task_dead_lettered import TaskDeadLettered
from .task_dead_lettered_data import TaskDeadLetteredData
from .task_dead_lettered_type import TaskDeadLetteredType
from .task_failed import TaskFailed
from .task_failed_data import TaskFailedData
from .task_failed_type import TaskFailedType
from .task_page import TaskPage
from .task_progress import TaskProgress
from .task_progress_data import TaskProgressData
from .task_progress_type import TaskProgressType
from .task_queued import TaskQueued
from .task_queued_data import TaskQueuedData
from .task_queued_type import TaskQueuedType
from .task_recovered import TaskRecovered
from .task_recovered_data import TaskRecoveredData
from .task_recovered_type import TaskRecoveredType
from .task_requeued import TaskRequeued
from .task_retrying import TaskRetrying
from .task_retrying_data import TaskRetryingData
from .task_retrying_type import TaskRetryingType
from .task_started import TaskStarted
from .task_started_data import TaskStartedData
from .task_started_type import TaskStartedType
from .task_state import TaskState
from .task_submitted import TaskSubmitted
from .task_submitted_data import TaskSubmittedData
from .task_submitted_type import TaskSubmittedType
from .task_type import TaskType
from .task_type_list import TaskTypeList
from .unhealthy import Unhealthy
from .waiting_counts import WaitingCounts
from .worker import Worker
from .worker_activity import WorkerActivity
from .worker_changed import WorkerChanged
from .worker_detail import WorkerDetail
from .worker_handler import WorkerHandler
from .worker_joined import WorkerJoined
from .worker_joined_data import WorkerJoinedData
from .worker_joined_type import WorkerJoinedType
from .worker_left import WorkerLeft
from .worker_left_data import WorkerLeftData
from .worker_left_type import WorkerLeftType
from .worker_list import WorkerList
from .worker_paused import WorkerPaused
from .worker_paused_data import WorkerPausedData
from .worker_paused_type import WorkerPausedType
from .worker_rates import WorkerRates
from .worker_resumed import WorkerResumed
from .worker_resumed_data import WorkerResumedData
from .worker_resumed_type import WorkerResumedType
from .workers_check import WorkersCheck

__all__ = (
    "AllDeadLettersRequeued",
    "Attempt",
    "AttemptList",
    "BacklogCheck",
    "CheckStatus",
    "CreatedTask",
    "CreatedTasks",
    "CreateTaskRequest",
    "CreateTasksRequest",
    "DeadLetter",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterGroupList",
    "DeadLetterList",
    "DeadLettersCleared",
    "EventPage",
    "EventsCheck",
    "EventsMissed",
    "EventsMissedData",
    "EventsMissedType",
    "EventType",
    "FrameRefused",
    "FrameRefusedData",
    "FrameRefusedType",
    "GapReason",
    "Health",
    "HealthCheck",
    "HealthChecks",
    "HealthStatus",
    "Liveness",
    "Priority",
    "Problem",
    "QueueChanged",
    "QueueDepth",
    "QueueDepthReported",
    "QueueDepthReportedData",
    "QueueDepthReportedType",
    "QueueDepths",
    "QueuePaused",
    "QueuePausedData",
    "QueuePausedType",
    "QueuePurged",
    "QueueResumed",
    "QueueResumedData",
    "QueueResumedType",
    "QueueStats",
    "QueueTotals",
    "Readiness",
    "RetryAllDeadLetters",
    "RetryOneDeadLetter",
    "RetryWantedDeadLetters",
    "RunningTask",
    "SubscriptionRequest",
    "SubscriptionRequestAction",
    "SubscriptionUpdated",
    "SubscriptionUpdatedData",
    "SubscriptionUpdatedType",
    "SystemMetricsReported",
    "SystemMetricsReportedData",
    "SystemMetricsReportedType",
    "Task",
    "TaskCancelled",
    "TaskCancelledData",
    "TaskCancelledType",
    "TaskCompleted",
    "TaskCompletedData",
    "TaskCompletedType",
    "TaskDeadLettered",
    "TaskDeadLetteredData",
    "TaskDeadLetteredType",
    "TaskFailed",
    "TaskFailedData",
    "TaskFailedType",
    "TaskPage",
    "TaskProgress",
    "TaskProgressData",
    "TaskProgressType",
    "TaskQueued",
    "TaskQueuedData",
    "TaskQueuedType",
    "TaskRecovered",
    "TaskRecoveredData",
    "TaskRecoveredType",
    "TaskRequeued",
    "TaskRetrying",
    "TaskRetryingData",
    "TaskRetryingType",
    "TaskStarted",
    "TaskStartedData",
    "TaskStartedType",
    "TaskState",
    "TaskSubmitted",
    "TaskSubmittedData",
    "TaskSubmittedType",
    "TaskType",
    "TaskTypeList",
    "Unhealthy",
    "WaitingCounts",
    "Worker",
    "WorkerActivity",
    "WorkerChanged",
    "WorkerDetail",
    "WorkerHandler",
    "WorkerJoined",
    "WorkerJoinedData",
    "WorkerJoinedType",
    "WorkerLeft",
    "WorkerLeftData",
    "WorkerLeftType",
    "WorkerList",
    "WorkerPaused",
    "WorkerPausedData",
    "WorkerPausedType",
    "WorkerRates",
    "WorkerResumed",
    "WorkerResumedData",
    "WorkerResumedType",
    "WorkersCheck",
)
